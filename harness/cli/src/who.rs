//! Who records a baseline.

use std::process::{Command, Stdio};

/// Where neither a note nor git says who it was.
const UNKNOWN: &str = "unknown (no --note, and git has no user.name)";

/// Who records, from git's settings, and `note`, their reason.
pub fn recorder(note: &str) -> String {
    described(git("user.name"), git("user.email"), note)
}

fn described(name: Option<String>, email: Option<String>, note: &str) -> String {
    let who = match (name, email) {
        (Some(name), Some(email)) => Some(format!("{name} <{email}>")),
        (name, email) => name.or(email),
    };
    match (who, note.trim()) {
        (Some(who), "") => who,
        (Some(who), note) => format!("{who}: {note}"),
        (None, "") => UNKNOWN.to_owned(),
        (None, note) => note.to_owned(),
    }
}

/// A setting of git's; `None` where there is none, or no git.
fn git(setting: &str) -> Option<String> {
    let output = Command::new("git").args(["config", "--get", setting]).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_and_why_are_never_both_empty() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(described(some("Ada"), some("a@b.c"), "larger words"), "Ada <a@b.c>: larger words");
        assert_eq!(described(some("Ada"), None, ""), "Ada");
        assert_eq!(described(None, some("a@b.c"), " "), "a@b.c");
        assert_eq!(described(None, None, "because"), "because");
        assert_eq!(described(None, None, ""), UNKNOWN);
    }
}
