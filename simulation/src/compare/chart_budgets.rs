//! Dice against budget: all sites but the central one together, then a small panel a site, the central one last. All panels
//! have the same axes.

use super::arms::FULL;
use super::charts::room_for;
use super::statistics::Interval;
use super::summary::{CONTROLS, FIRST, Row, Summary};
use crate::experiment::DEFAULT_RULE;
use crate::report::svg::{Anchor, Ink, PALETTE, Svg, tick_text, ticks};

const WIDTH: f64 = 760.0;
const COLUMNS: usize = 3;
/// Margins of a panel, and its whole size.
const LEFT: f64 = 46.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 30.0;
const PANEL: (f64, f64) = ((WIDTH - 24.0) / COLUMNS as f64, 208.0);
/// How far marks of one budget stand apart at most, and what they may take of the way to the next budget.
const APART: f64 = 5.4;
const SHARE: f64 = 0.7;
/// Height of a line of the key, and the least width of its columns, of which the mark takes some.
const KEY: (f64, f64) = (20.0, 180.0);
const MARK: f64 = 28.0;

/// An arm's line in every panel.
struct Line<'a> {
    arm: &'a str,
    rows: Vec<&'a Row>,
    ink: Ink,
    shape: usize,
}

/// Whose Dice a panel shows.
#[derive(Clone, Copy)]
enum Panel<'a> {
    /// The mean over all sites but the central one.
    Others,
    Site(&'a str),
    Central,
}

impl<'a> Panel<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Others => "mean of these sites",
            Self::Site(site) => site,
            Self::Central => "central site",
        }
    }
}

/// Where things are in a panel: budgets and Dice to the panel's own coordinates.
struct Axes {
    most: f64,
    low: f64,
    high: f64,
}

impl Axes {
    fn x(&self, budget: f64) -> f64 {
        LEFT + 14.0 + budget / self.most * (PANEL.0 - LEFT - 48.0)
    }

    fn y(&self, dice: f64) -> f64 {
        PANEL.1 - BOTTOM - (dice - self.low) / (self.high - self.low) * (PANEL.1 - TOP - BOTTOM)
    }
}

/// Draws the panels. No more arms are drawn than there are colours: controls, the default rule, then the best; the others'
/// names come back.
pub(super) fn by_site(summary: &Summary) -> (String, Vec<String>) {
    let (lines, left_out) = lines(summary);
    let panels: Vec<Panel<'_>> = summary.rows.first().map_or(Vec::new(), |row| {
        let sites = row.by_site.keys().map(|site| Panel::Site(site.as_str()));
        [Panel::Others].into_iter().chain(sites).chain(row.central.map(|_| Panel::Central)).collect()
    });
    let axes = axes(summary, &panels);
    let apart = apart(&axes, summary, lines.len());
    let named = lines.len() + 1 + usize::from(summary.rows.iter().any(|row| row.arm == FULL));
    let column = MARK + room_for(lines.iter().flat_map(|line| line.rows.first().copied()), KEY.1 - MARK);
    let key = KEY.0 * named.div_ceil((WIDTH / column) as usize) as f64 + 8.0;
    let height = key + PANEL.1 * panels.len().div_ceil(COLUMNS) as f64 + 26.0;
    let mut svg = Svg::new(WIDTH, height, "Dice against budget by site");
    draw_key(&mut svg, &lines, column, named > lines.len() + 1);
    for (index, panel) in panels.iter().enumerate() {
        let corner = (24.0 + PANEL.0 * (index % COLUMNS) as f64, key + PANEL.1 * (index / COLUMNS) as f64);
        frame(&mut svg, corner, &axes, panel.name(), summary);
        level(&mut svg, corner, &axes, *panel, summary);
        for (place, line) in lines.iter().enumerate() {
            let shift = apart * (place as f64 - (lines.len() as f64 - 1.0) / 2.0);
            draw_line(&mut svg, corner, &axes, line, *panel, shift, summary);
        }
        if let Some(first) = first_of(summary, *panel) {
            let x = corner.0 + axes.x(0.0);
            bar(&mut svg, (x, corner.1), &axes, first, Ink::Soft);
            svg.mark((x, corner.1 + axes.y(first.mean)), 4.2, Ink::Soft, 0);
        }
    }
    svg.text((WIDTH / 2.0, height - 8.0), 13.0, Anchor::Middle, Ink::Text, "patches a site");
    svg.upright((14.0, (key + height - 26.0) / 2.0), 13.0, "mean Dice on held-out fields");
    (svg.finish(), left_out)
}

/// The arms that have lines, and the names of those for which there is no colour.
fn lines<'a>(summary: &'a Summary) -> (Vec<Line<'a>>, Vec<String>) {
    let largest = summary.budgets().last().copied().unwrap_or(0);
    let of_arm = |row: &Row| row.arm != FULL && row.arm != FIRST;
    let mut last: Vec<&'a Row> = summary.at(largest).into_iter().filter(|row| of_arm(row)).collect();
    // Of the others the best are first.
    let always = || CONTROLS.into_iter().chain([DEFAULT_RULE.name()]);
    last.sort_by_key(|row| always().position(|name| name == row.arm).unwrap_or(CONTROLS.len() + 1));
    let left_out = last.iter().skip(PALETTE.len()).map(|row| row.arm.clone()).collect();
    let line = |(place, row): (usize, &'a Row)| {
        let mut rows: Vec<&Row> = summary.rows.iter().filter(|other| other.arm == row.arm).collect();
        rows.sort_by_key(|row| row.budget);
        Line { arm: &row.arm, rows, ink: Ink::Series(place), shape: place }
    };
    (last.into_iter().take(PALETTE.len()).enumerate().map(line).collect(), left_out)
}

/// A row's Dice in a panel.
fn at(row: &Row, panel: Panel<'_>) -> Option<Interval> {
    match panel {
        Panel::Others => row.dice,
        Panel::Site(site) => row.by_site.get(site).copied(),
        Panel::Central => row.central,
    }
}

fn first_of(summary: &Summary, panel: Panel<'_>) -> Option<Interval> {
    summary.first().and_then(|row| at(row, panel))
}

fn axes(summary: &Summary, panels: &[Panel<'_>]) -> Axes {
    let all = || summary.rows.iter().flat_map(|row| panels.iter().filter_map(|panel| at(row, *panel)));
    let (low, high) = (all().map(|d| d.low).fold(1.0, f64::min), all().map(|d| d.high).fold(0.0, f64::max));
    let room = (high - low).max(0.02) * 0.04;
    let most = summary.budgets().last().map_or(1.0, |budget| f64::from(*budget));
    Axes { most, low: (low - room).max(0.0), high: (high + room).min(1.0) }
}

/// How far marks of one budget stand apart, so that they do not reach those of the next.
fn apart(axes: &Axes, summary: &Summary, lines: usize) -> f64 {
    let budgets: Vec<u32> = [0].into_iter().chain(summary.budgets()).collect();
    let gaps = budgets.windows(2).map(|pair| axes.x(f64::from(pair[1])) - axes.x(f64::from(pair[0])));
    let closest = gaps.fold(PANEL.0, f64::min);
    (SHARE * closest / lines.max(1) as f64).min(APART)
}

fn frame(svg: &mut Svg, corner: (f64, f64), axes: &Axes, name: &str, summary: &Summary) {
    let (right, bottom) = (corner.0 + PANEL.0 - 10.0, corner.1 + PANEL.1 - BOTTOM);
    let marks = ticks(axes.low, axes.high, 5);
    let step = if marks.len() > 1 { marks[1] - marks[0] } else { 0.05 };
    for value in marks {
        let y = corner.1 + axes.y(value);
        svg.grid((corner.0 + LEFT, y), (right, y));
        svg.text((corner.0 + LEFT - 6.0, y + 4.0), 11.5, Anchor::End, Ink::Soft, &tick_text(value, step));
    }
    svg.line((corner.0 + LEFT, bottom), (right, bottom), Ink::Soft, 1.0);
    let mut free = f64::NEG_INFINITY;
    for budget in [0].into_iter().chain(summary.budgets()) {
        let x = corner.0 + axes.x(f64::from(budget));
        svg.line((x, bottom), (x, bottom + 4.0), Ink::Soft, 1.0);
        // Budgets that lie close together would write over each other.
        if x >= free {
            svg.text((x, bottom + 17.0), 11.5, Anchor::Middle, Ink::Soft, &budget.to_string());
            free = x + 26.0;
        }
    }
    svg.strong((corner.0 + LEFT, corner.1 + 18.0), 12.5, Anchor::Start, Ink::Text, name);
}

/// What learning from everything reaches.
fn level(svg: &mut Svg, corner: (f64, f64), axes: &Axes, panel: Panel<'_>, summary: &Summary) {
    let full = summary.rows.iter().find(|row| row.arm == FULL).and_then(|row| at(row, panel));
    if let Some(full) = full {
        let y = corner.1 + axes.y(full.mean);
        svg.polyline(&[(corner.0 + LEFT, y), (corner.0 + PANEL.0 - 10.0, y)], Ink::Soft, 1.3, Some("5 4"));
    }
}

fn draw_line(
    svg: &mut Svg,
    corner: (f64, f64),
    axes: &Axes,
    line: &Line<'_>,
    panel: Panel<'_>,
    shift: f64,
    summary: &Summary,
) {
    let first = first_of(summary, panel).map(|dice| (corner.0 + axes.x(0.0), corner.1 + axes.y(dice.mean)));
    let points: Vec<((f64, f64), Interval)> = line
        .rows
        .iter()
        .filter_map(|row| at(row, panel).map(|dice| (f64::from(row.budget), dice)))
        .map(|(budget, dice)| ((corner.0 + axes.x(budget) + shift, corner.1 + axes.y(dice.mean)), dice))
        .collect();
    let path: Vec<(f64, f64)> = first.into_iter().chain(points.iter().map(|(point, _)| *point)).collect();
    svg.polyline(&path, line.ink, 1.1, None);
    for (point, dice) in points {
        bar(svg, (point.0, corner.1), axes, dice, line.ink);
        svg.mark(point, 3.0, line.ink, line.shape);
    }
}

/// An upright interval at `x` in a panel whose top is at `top`.
fn bar(svg: &mut Svg, (x, top): (f64, f64), axes: &Axes, dice: Interval, ink: Ink) {
    svg.line((x, top + axes.y(dice.low)), (x, top + axes.y(dice.high)), ink, 1.2);
}

fn draw_key(svg: &mut Svg, lines: &[Line<'_>], column: f64, full: bool) {
    let mut place = 0usize;
    let mut next = || {
        let columns = (WIDTH / column) as usize;
        let at = (24.0 + column * (place % columns) as f64, 12.0 + KEY.0 * (place / columns) as f64);
        place += 1;
        at
    };
    let (x, y) = next();
    svg.mark((x + 11.0, y), 4.2, Ink::Soft, 0);
    svg.text((x + MARK, y + 4.5), 12.5, Anchor::Start, Ink::Text, FIRST);
    for line in lines {
        let (x, y) = next();
        svg.line((x, y), (x + 22.0, y), line.ink, 1.4);
        svg.mark((x + 11.0, y), 3.8, line.ink, line.shape);
        svg.text((x + MARK, y + 4.5), 12.5, Anchor::Start, Ink::Text, line.arm);
    }
    if full {
        let (x, y) = next();
        svg.polyline(&[(x, y), (x + 22.0, y)], Ink::Soft, 1.3, Some("5 4"));
        svg.text((x + MARK, y + 4.5), 12.5, Anchor::Start, Ink::Text, FULL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_and_the_default_rule_are_always_drawn() {
        let text = include_str!("../../../docs/results/rare-batch.json");
        let mut summary: Summary = serde_json::from_str(text).unwrap();
        // The default takes the place of the worst.
        let last = summary.budgets().last().copied().unwrap();
        let ranked = |summary: &Summary| -> Vec<String> {
            let rows = summary.at(last).into_iter().filter(|row| row.arm != FULL && row.arm != FIRST);
            rows.map(|row| row.arm.clone()).collect()
        };
        let worst = ranked(&summary).pop().unwrap();
        for row in &mut summary.rows {
            row.arm = match row.arm.as_str() {
                "clasp-pe" => "another".to_owned(),
                arm if arm == worst => "clasp-pe".to_owned(),
                arm => arm.to_owned(),
            };
        }
        let (lines, left_out) = lines(&summary);
        let drawn: Vec<&str> = lines.iter().map(|line| line.arm).collect();
        let mut wanted: Vec<&str> = CONTROLS.into_iter().filter(|name| *name != FIRST).chain(["clasp-pe"]).collect();
        let ranked = ranked(&summary);
        let best: Vec<&str> = ranked.iter().map(String::as_str).filter(|arm| !wanted.contains(arm)).collect();
        wanted.extend(&best[..PALETTE.len() - wanted.len()]);
        assert_eq!(drawn, wanted);
        assert_eq!(left_out, best[best.len() - left_out.len()..]);
    }
}
