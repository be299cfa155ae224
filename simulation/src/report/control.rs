//! Control patches beside those that the rule asked for, by round.

use std::fmt::Write as _;

use super::html::section;
use crate::experiment::{Metrics, Patch};

const TEXT: &str = "Drawn at random, corrected like the others and never learned from: how good the drawing is where no rule \
    looked for its faults. From the second round on they come from what nobody was asked about before, and so lie a little \
    on the easy side. Mean Dice of the drawing before its correction, over all hospitals' patches that have one.";

/// A table with a line a round; nothing of a study without control patches.
pub(super) fn control(body: &mut String, metrics: &Metrics) {
    if !metrics.patches.iter().any(|patch| patch.control) {
        return;
    }
    section(body, "Control patches", &[TEXT.to_owned()]);
    body.push_str("<table><thead><tr><th>round</th><th>asked by the rule</th><th>control</th></tr></thead><tbody>\n");
    let rounds = metrics.patches.iter().map(|patch| patch.round).max().unwrap_or(0);
    for round in 1..=rounds {
        let [asked, control] = [false, true].map(|control| {
            told(metrics.patches.iter().filter(|patch| patch.round == round && patch.control == control))
        });
        let _ = writeln!(body, "<tr><td>{round}</td><td>{asked}</td><td>{control}</td></tr>");
    }
    body.push_str("</tbody></table>\n");
}

/// The mean and how many it is over.
fn told<'a>(patches: impl Iterator<Item = &'a Patch>) -> String {
    let dice: Vec<f64> = patches.filter_map(|patch| patch.dice_before).collect();
    match dice.len() {
        0 => "–".to_owned(),
        n => format!("{:.3} ({n} patch{})", dice.iter().sum::<f64>() / n as f64, if n == 1 { "" } else { "es" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn what_was_asked_and_the_controls_are_told_apart() {
        let mut metrics = sample::metrics();
        let mut body = String::new();
        control(&mut body, &metrics);
        assert_eq!(body, "");

        metrics.patches.truncate(5);
        for (patch, (round, kept, dice)) in metrics.patches.iter_mut().zip([
            (1, false, Some(0.25)),
            (1, false, Some(0.5)),
            (1, true, Some(0.75)),
            (1, true, None),
            (2, true, None),
        ]) {
            (patch.round, patch.control, patch.dice_before) = (round, kept, dice);
        }
        control(&mut body, &metrics);
        assert!(body.contains("<tr><td>1</td><td>0.375 (2 patches)</td><td>0.750 (1 patch)</td></tr>"), "{body}");
        assert!(body.contains("<tr><td>2</td><td>–</td><td>–</td></tr>"), "{body}");
    }
}
