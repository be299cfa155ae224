//! The figures of a comparison.

use super::arms::FULL;
use super::summary::{Row, Summary};
use crate::report::svg::{Anchor, Ink, Svg, tick_text, ticks};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 176.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;
/// Height of an arm.
const LINE: f64 = 22.0;

/// Mean Dice of every arm at a budget with its interval, the best first; the dashed line is the first ensemble.
pub(super) fn arms(summary: &Summary, budget: u32) -> String {
    let with_dice = |row: &'_ Row| row.dice.map(|dice| (dice.mean, dice.low, dice.high));
    let rows: Vec<(&Row, (f64, f64, f64))> =
        summary.at(budget).into_iter().filter_map(|row| Some((row, with_dice(row)?))).collect();
    let first = summary.first().and_then(|row| row.dice).map(|dice| dice.mean);
    let left = room_for(rows.iter().map(|(row, _)| *row), LEFT);
    let height = TOP + BOTTOM + LINE * rows.len() as f64;
    let mut svg = Svg::new(WIDTH, height, &format!("Mean Dice by arm with {budget} patches a site"));
    let lowest = rows.iter().map(|row| row.1.1).chain(first).fold(1.0, f64::min);
    let highest = rows.iter().map(|row| row.1.2).chain(first).fold(0.0, f64::max);
    let room = (highest - lowest).max(0.01) * 0.05;
    let (low, high) = ((lowest - room).max(0.0), (highest + room).min(1.0));
    let x_of = |dice: f64| left + (dice - low) / (high - low) * (WIDTH - left - RIGHT);
    let marks = ticks(low, high, 6);
    let step = if marks.len() > 1 { marks[1] - marks[0] } else { 0.1 };
    for value in marks {
        svg.grid((x_of(value), TOP), (x_of(value), height - BOTTOM));
        let at = (x_of(value), height - BOTTOM + 18.0);
        svg.text(at, 12.0, Anchor::Middle, Ink::Soft, &tick_text(value, step));
    }
    if let Some(first) = first {
        svg.polyline(&[(x_of(first), TOP), (x_of(first), height - BOTTOM)], Ink::Soft, 1.4, Some("5 4"));
        let text = format!("first ensemble {first:.3}");
        svg.text((x_of(first), TOP - 8.0), 12.0, Anchor::Middle, Ink::Soft, &text);
    }
    for (index, (row, (mean, from, to))) in rows.into_iter().enumerate() {
        let y = TOP + LINE * (index as f64 + 0.5);
        let ink = ink(row);
        svg.text((left - 12.0, y + 4.5), 13.0, Anchor::End, Ink::Text, &row.arm);
        svg.line((x_of(from), y), (x_of(to), y), ink, 2.0);
        svg.mark((x_of(mean), y), 4.8, ink, 0);
        let figures = format!("{mean:.3}  ({from:.3} to {to:.3})");
        svg.text((WIDTH - RIGHT + 12.0, y + 4.0), 11.5, Anchor::Start, Ink::Soft, &figures);
    }
    let middle = (left + WIDTH - RIGHT) / 2.0;
    let axis = format!("mean Dice on held-out fields with {budget} patches a site, 95 % interval");
    svg.text((middle, height - 12.0), 13.0, Anchor::Middle, Ink::Text, &axis);
    svg.finish()
}

/// Width of a column of arms' names before what is drawn beside them, at least `least`.
pub(super) fn room_for<'a>(rows: impl IntoIterator<Item = &'a Row>, least: f64) -> f64 {
    let longest = rows.into_iter().map(|row| row.arm.chars().count()).max().unwrap_or(0);
    (24.0 + 7.0 * longest as f64).max(least)
}

/// The colour of an arm where controls stand out: random, UGA's, and what is no rule.
pub(super) fn ink(row: &Row) -> Ink {
    match row.arm.as_str() {
        "random" | "foreground-random" => Ink::Series(1),
        "uga" => Ink::Series(2),
        FULL => Ink::Soft,
        _ if row.budget == 0 => Ink::Soft,
        _ => Ink::Series(0),
    }
}

/// Side of a square figure, and its margins.
const SQUARE: f64 = 430.0;
const MARGIN: (f64, f64) = (62.0, 54.0);

/// What is drawn in a square: points, and a line through points of its own.
#[derive(Default)]
pub(super) struct Plotted<'a> {
    pub(super) points: &'a [(f64, f64)],
    pub(super) line: &'a [(f64, f64)],
    /// Both axes are shares: a line of perfect agreement, and no more than 1.
    pub(super) shares: bool,
    /// Beside the square.
    pub(super) note: &'a str,
}

/// Points in a square; what is upwards is a share.
pub(super) fn square(title: &str, axes: (&str, &str), plotted: &Plotted<'_>) -> String {
    let &Plotted { points, line, shares, note } = plotted;
    let mut svg = Svg::new(WIDTH, SQUARE, title);
    let furthest = points.iter().chain(line).map(|point| point.0).fold(0.05, f64::max);
    let most = if shares { 1.0 } else { furthest * 1.04 };
    let x_of = |x: f64| MARGIN.0 + x / most * (WIDTH - MARGIN.0 - RIGHT);
    let y_of = |y: f64| SQUARE - MARGIN.1 - y * (SQUARE - MARGIN.1 - 18.0);
    for value in ticks(0.0, 1.0, 5) {
        svg.grid((MARGIN.0, y_of(value)), (WIDTH - RIGHT, y_of(value)));
        svg.text((MARGIN.0 - 8.0, y_of(value) + 4.0), 12.0, Anchor::End, Ink::Soft, &tick_text(value, 0.2));
    }
    let marks = ticks(0.0, most, 6);
    let step = if marks.len() > 1 { marks[1] - marks[0] } else { 0.1 };
    for value in marks {
        svg.line((x_of(value), y_of(0.0)), (x_of(value), y_of(0.0) + 4.0), Ink::Soft, 1.0);
        svg.text((x_of(value), y_of(0.0) + 18.0), 12.0, Anchor::Middle, Ink::Soft, &tick_text(value, step));
    }
    svg.line((MARGIN.0, y_of(0.0)), (WIDTH - RIGHT, y_of(0.0)), Ink::Soft, 1.0);
    if shares {
        svg.polyline(&[(x_of(0.0), y_of(0.0)), (x_of(1.0), y_of(1.0))], Ink::Soft, 1.2, Some("5 4"));
    }
    let radius = if points.len() > 200 { 2.4 } else { 4.4 };
    for &(x, y) in points {
        svg.mark((x_of(x), y_of(y)), radius, Ink::Series(0), 0);
    }
    let line: Vec<(f64, f64)> = line.iter().map(|&(x, y)| (x_of(x), y_of(y))).collect();
    if !line.is_empty() {
        svg.polyline(&line, Ink::Series(1), 2.2, None);
    }
    line.iter().for_each(|&at| svg.mark(at, 4.8, Ink::Series(1), 1));
    svg.text(((MARGIN.0 + WIDTH - RIGHT) / 2.0, SQUARE - 12.0), 13.0, Anchor::Middle, Ink::Text, axes.0);
    svg.upright((16.0, (18.0 + SQUARE - MARGIN.1) / 2.0), 13.0, axes.1);
    svg.strong((WIDTH - RIGHT + 12.0, 34.0), 13.0, Anchor::Start, Ink::Text, note);
    svg.finish()
}
