//! The branch that is measured, for the labels of what is pushed.

use std::process::{Command, Stdio};

/// Where CI systems say it, since they check out commits, not branches: ours, GitHub (of a pull request, else of a push),
/// GitLab, Jenkins (the same two).
const VARIABLES: [&str; 6] =
    ["HEAPGATE_BRANCH", "GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "CHANGE_BRANCH", "BRANCH_NAME"];

/// The branch of `commit`, as a report has it: what the CI system says, else what is checked out here, if it is that commit.
/// `None` where neither is known.
pub fn of(commit: &str) -> Option<String> {
    let variable = |name: &str| std::env::var(name).ok();
    decided(commit, variable, git)
}

fn decided(
    commit: &str,
    variable: impl Fn(&str) -> Option<String>,
    git: impl Fn(&[&str]) -> Option<String>,
) -> Option<String> {
    let said = VARIABLES.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    said.or_else(|| {
        // With `+` where the tree had changes.
        let commit = commit.trim_end_matches('+');
        let head = git(&["rev-parse", "HEAD"])?;
        let here = !commit.is_empty() && head.starts_with(commit);
        // Fails on a commit without a branch.
        here.then(|| git(&["symbolic-ref", "--quiet", "--short", "HEAD"])).flatten()
    })
}

/// What git prints; `None` if it fails, or prints nothing.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789ab";

    fn with(variables: &[(&str, &str)], branch: Option<&str>) -> Option<String> {
        let variable = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1.to_owned());
        let git = |arguments: &[&str]| match arguments {
            ["rev-parse", ..] => Some(format!("{COMMIT}cdef")),
            _ => branch.map(str::to_owned),
        };
        decided("0123456789ab+", variable, git)
    }

    #[test]
    fn what_ci_says_goes_before_what_is_checked_out() {
        assert_eq!(with(&[], Some("main")).as_deref(), Some("main"));
        assert_eq!(with(&[], None), None);
        let github = [("GITHUB_REF_NAME", "12/merge"), ("GITHUB_HEAD_REF", "fix/leak")];
        assert_eq!(with(&github, Some("main")).as_deref(), Some("fix/leak"));
        assert_eq!(with(&[("GITHUB_HEAD_REF", ""), github[0]], None).as_deref(), Some("12/merge"));
    }

    #[test]
    fn a_report_of_another_commit_has_no_branch_from_here() {
        let git = |arguments: &[&str]| Some(if arguments[0] == "rev-parse" { COMMIT } else { "main" }.to_owned());
        for commit in ["fedcba987654", "", "file 0123456789ab"] {
            assert_eq!(decided(commit, |_| None, git), None, "{commit}");
        }
    }
}
