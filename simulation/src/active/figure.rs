//! `metrics.json`, the table, and the report: Dice against the pictures that were learned from.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::{FULL, Line};
use crate::experiment::ExperimentError;
use crate::files;
use crate::report::svg::{Anchor, Ink, Svg, escape, tick_text, ticks};
use crate::report::{figure, page_of, png_of, section};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
/// Left, right, top and bottom margins.
const MARGIN: (f64, f64, f64, f64) = (62.0, 150.0, 24.0, 54.0);

/// Writes everything; returns the report's path.
pub(super) fn write(out: &Path, lines: &[Line], command: &str) -> Result<PathBuf, ExperimentError> {
    files::write(&out.join("metrics.json"), lines)?;
    let drawing = chart(lines);
    let (png, report) = (out.join("dice.png"), out.join("report.html"));
    fs::write(&png, png_of(&drawing)?).map_err(ExperimentError::file(&png))?;
    let mut body = String::from("<h1>Active learning</h1>\n");
    figure(&mut body, &drawing, CAPTION);
    section(&mut body, "Every iteration", &[TABLE.to_owned()]);
    rows(&mut body, lines);
    section(&mut body, "To do this again", &[]);
    let _ = writeln!(body, "<pre>{}</pre>", escape(command));
    fs::write(&report, page_of("Active learning", &body)).map_err(ExperimentError::file(&report))?;
    Ok(report)
}

const CAPTION: &str = "Mean Dice of the test pictures against the pictures that were learned from, by strategy; the dashed \
    line learned from all at once, in as many steps as a strategy in all. One seed: another division of the pictures gives another figure.";
const TABLE: &str = "The best network of each iteration, by the validation pictures, is the one that is tested, asked, and \
    trained on.";

/// The table for a terminal.
pub(super) fn table(lines: &[Line]) -> String {
    let mut text = format!("{:12}{:>10}{:>10}{:>12}{:>8}", "strategy", "iteration", "pictures", "validation", "test");
    for (strategy, cells) in cells(lines) {
        let _ = write!(text, "\n{strategy:12}{:>10}{:>10}{:>12}{:>8}", cells[0], cells[1], cells[2], cells[3]);
    }
    text
}

/// Iteration, pictures, best validation Dice and test Dice of every line.
fn cells(lines: &[Line]) -> impl Iterator<Item = (&str, [String; 4])> {
    let dice = |value: Option<f64>| value.map_or("-".to_owned(), |dice| format!("{dice:.3}"));
    lines.iter().flat_map(move |line| {
        line.iterations.iter().map(move |known| {
            let best = known.validation.iter().filter_map(|(_, dice)| *dice).reduce(f64::max);
            let cells = [known.iteration.to_string(), known.pool.to_string(), dice(best), dice(known.test_dice)];
            (line.strategy.as_str(), cells)
        })
    })
}

fn rows(body: &mut String, lines: &[Line]) {
    body.push_str(
        "<table><thead><tr><th>strategy</th><th>iteration</th><th>pictures</th><th>validation Dice</th>\
                   <th>test Dice</th></tr></thead><tbody>\n",
    );
    for (strategy, cells) in cells(lines) {
        let cells: String = cells.iter().map(|cell| format!("<td class=\"n\">{cell}</td>")).collect();
        let _ = writeln!(body, "<tr><td>{strategy}</td>{cells}</tr>");
    }
    body.push_str("</tbody></table>\n");
}

/// Pictures and test Dice of a line.
fn points(line: &Line) -> Vec<(f64, f64)> {
    line.iterations.iter().filter_map(|known| Some((known.pool as f64, known.test_dice?))).collect()
}

fn chart(lines: &[Line]) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT, "Test Dice against pictures learned from");
    let all: Vec<(f64, f64)> = lines.iter().flat_map(points).collect();
    let strategies = || lines.iter().filter(|line| line.strategy != FULL);
    let most = strategies().flat_map(points).map(|point| point.0).fold(1.0, f64::max);
    let (low, high) = all.iter().fold((1.0f64, 0.0f64), |(low, high), (_, dice)| (low.min(*dice), high.max(*dice)));
    let room = (high - low).max(0.02) * 0.08;
    let (low, high) = ((low - room).max(0.0), (high + room).min(1.0));
    let (left, right, top, bottom) = MARGIN;
    let x_of = |pictures: f64| left + 14.0 + pictures / most * (WIDTH - left - right - 28.0);
    let y_of = |dice: f64| HEIGHT - bottom - (dice - low) / (high - low).max(1e-9) * (HEIGHT - top - bottom);
    let (marks, pictures) = (ticks(low, high, 6), ticks(0.0, most, 6));
    let step = |marks: &[f64], otherwise: f64| if marks.len() > 1 { marks[1] - marks[0] } else { otherwise };
    for &dice in &marks {
        svg.grid((left, y_of(dice)), (WIDTH - right, y_of(dice)));
        let text = tick_text(dice, step(&marks, 0.1));
        svg.text((left - 8.0, y_of(dice) + 4.0), 12.0, Anchor::End, Ink::Soft, &text);
    }
    let axis = HEIGHT - bottom;
    for &count in &pictures {
        svg.line((x_of(count), axis), (x_of(count), axis + 4.0), Ink::Soft, 1.0);
        let text = tick_text(count, step(&pictures, 1.0));
        svg.text((x_of(count), axis + 18.0), 12.0, Anchor::Middle, Ink::Soft, &text);
    }
    svg.line((left, axis), (WIDTH - right, axis), Ink::Soft, 1.0);
    for (place, line) in strategies().enumerate() {
        let (ink, points): (Ink, Vec<_>) =
            (Ink::Series(place), points(line).into_iter().map(|(x, y)| (x_of(x), y_of(y))).collect());
        svg.polyline(&points, ink, 1.8, None);
        points.iter().for_each(|&point| svg.mark(point, 4.4, ink, place));
        let key = (WIDTH - right + 16.0, top + 12.0 + 20.0 * place as f64);
        svg.mark(key, 4.4, ink, place);
        svg.text((key.0 + 12.0, key.1 + 4.5), 12.5, Anchor::Start, Ink::Text, &line.strategy);
    }
    if let Some(&(pictures, dice)) = lines.iter().find(|l| l.strategy == FULL).map(points).unwrap_or_default().last() {
        svg.polyline(&[(left, y_of(dice)), (WIDTH - right, y_of(dice))], Ink::Soft, 1.4, Some("5 4"));
        let key = (WIDTH - right + 16.0, top + 12.0 + 20.0 * strategies().count() as f64);
        svg.polyline(&[(key.0 - 8.0, key.1), (key.0 + 8.0, key.1)], Ink::Soft, 1.4, Some("5 4"));
        svg.text((key.0 + 12.0, key.1 + 4.5), 12.5, Anchor::Start, Ink::Text, &format!("all {pictures}"));
    }
    svg.text(((left + WIDTH - right) / 2.0, HEIGHT - 14.0), 13.0, Anchor::Middle, Ink::Text, "pictures learned from");
    svg.upright((16.0, (top + axis) / 2.0), 13.0, "mean Dice of the test pictures");
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::super::Iteration;
    use super::*;

    #[test]
    fn a_table_tells_what_is_known() {
        let known = |iteration, pool, test_dice| Iteration {
            iteration,
            pool,
            steps: 6,
            epoch_loss: vec![1.0],
            validation: vec![(2, Some(0.4)), (4, None), (6, Some(0.5))],
            test_dice,
            asked: vec![],
        };
        let lines = [
            Line { strategy: "variance".into(), iterations: vec![known(0, 2, Some(0.25)), known(1, 3, None)] },
            Line { strategy: FULL.into(), iterations: vec![known(0, 9, Some(0.75))] },
        ];
        let table = table(&lines);
        assert_eq!(table.lines().count(), 4);
        assert!(table.contains("0.250") && table.contains("0.500") && table.contains('-'), "{table}");
        assert!(chart(&lines).contains("all 9"));
    }
}
