//! Resident memory taken apart: bars cut into what they are made of, and the table of the parts.

use std::fmt::Write;

use super::cell::OfCell;
use super::shell::data;
use crate::metric::Unit;
use crate::render::{evidence, human};
use crate::report::{MemoryAccount, MemoryPart, PhaseKind};

/// Resident memory at one time, of the baseline where there is one and now.
struct Account {
    phase: PhaseKind,
    baseline: Option<MemoryAccount>,
    now: MemoryAccount,
}

/// At the ends of measuring and draining, as far as it was seen.
pub(super) fn memory(of: &OfCell<'_>) -> String {
    [PhaseKind::Measure, PhaseKind::Drain]
        .into_iter()
        .filter_map(|phase| account(of, phase))
        .map(|account| figure(&account))
        .collect()
}

fn account(of: &OfCell<'_>, phase: PhaseKind) -> Option<Account> {
    // The verdict's own figures, where it took the change apart.
    if let Some(line) = of.memory.iter().find(|line| line.phase == phase) {
        let mut account = Account { phase, baseline: Some(MemoryAccount::default()), now: MemoryAccount::default() };
        for part in &line.parts {
            let index = MemoryPart::ALL.iter().position(|p| *p == part.part)?;
            account.now[index] = part.now_bytes;
            account.baseline.as_mut()?[index] = part.baseline_bytes;
        }
        return Some(account);
    }
    let now = of.trials.as_ref()?.memory(phase)?;
    Some(Account { phase, baseline: of.baseline.and_then(|b| b.memory.get(&phase)).copied(), now })
}

fn figure(account: &Account) -> String {
    let bytes = |bytes: f64| data(bytes, &human::value(Unit::Bytes, bytes));
    let signed = |bytes: f64| format!("{}{}", if bytes > 0.0 { "+" } else { "" }, human::value(Unit::Bytes, bytes));
    let row = |was: Option<f64>, is: f64| match was {
        Some(was) => format!(
            "<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
            bytes(was),
            bytes(is),
            signed(is - was)
        ),
        None => format!("<td class=\"n\">{}</td>", bytes(is)),
    };
    let headings = match account.baseline {
        Some(_) => {
            "<th scope=\"col\" class=\"n\">baseline</th><th scope=\"col\" class=\"n\">now</th><th scope=\"col\" class=\"n\">change</th>"
        }
        None => "<th scope=\"col\" class=\"n\">now</th>",
    };
    let mut out = format!(
        "<figure class=\"memory\"><figcaption>Resident memory at the end of {}, taken apart</figcaption><div class=\"drawn\">{}</div><table class=\"small\"><thead><tr><th scope=\"col\">part</th>{headings}</tr></thead><tbody>\n",
        evidence::phase(account.phase),
        bars(account)
    );
    for (index, part) in MemoryPart::ALL.into_iter().enumerate() {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\"><i class=\"dot\" style=\"background:var(--p{index})\"></i>{}</th>{}</tr>",
            part.name(),
            row(account.baseline.map(|b| b[index]), account.now[index]),
        );
    }
    let sum = |account: MemoryAccount| account.iter().sum::<f64>();
    let _ = writeln!(
        out,
        "<tr class=\"sum\"><th scope=\"row\">together</th>{}</tr></tbody></table></figure>",
        row(account.baseline.map(sum), sum(account.now)),
    );
    out
}

/// A bar for each side, cut into the parts.
fn bars(account: &Account) -> String {
    const WIDTH: f64 = 480.0;
    const LEFT: f64 = 58.0;
    const BAR: f64 = 20.0;
    const STEP: f64 = 28.0;
    // Live bytes that were never touched make a part negative, which has no length.
    let length = |account: &MemoryAccount| account.map(|bytes| bytes.max(0.0));
    let mut sides = vec![("now", length(&account.now))];
    if let Some(baseline) = &account.baseline {
        sides.insert(0, ("baseline", length(baseline)));
    }
    let most = sides.iter().map(|s| s.1.iter().sum::<f64>()).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"parts of resident memory, in the table below\">",
        sides.len() as f64 * STEP
    );
    for (row, (name, parts)) in sides.iter().enumerate() {
        let top = row as f64 * STEP;
        let _ = write!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0, top + 14.0);
        let mut left = LEFT;
        for (index, bytes) in parts.iter().enumerate() {
            let width = bytes / most * (WIDTH - LEFT);
            let _ = write!(
                svg,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"var(--p{index})\"><title>{}: {}</title></rect>",
                MemoryPart::ALL[index].name(),
                human::value(Unit::Bytes, *bytes)
            );
            left += width;
        }
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_parts_take_no_room() {
        let account = Account { phase: PhaseKind::Measure, baseline: None, now: [5e6, -2e6, 0.0, 1e6, 3e6] };
        let text = figure(&account);
        assert!(!text.contains("width=\"-") && text.contains("-1.91 MiB"), "{text}");
        assert_eq!(text.matches("<rect").count(), 5, "one bar");
    }
}
