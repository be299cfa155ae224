//! Dice by stage of disease at a budget: a panel a stage, a line an arm. A stage without foreground in truth has no Dice;
//! its panel shows the share of tissue that is wrongly called foreground.

use super::charts::{ink, room_for};
use super::stages::StageFigures;
use super::statistics::Interval;
use super::summary::{Row, Summary};
use crate::report::svg::{Anchor, Ink, Svg, tick_text, ticks};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 158.0;
/// Panels side by side.
const COLUMNS: usize = 4;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 50.0;
/// Height of an arm, and the gap between panels.
const LINE: f64 = 20.0;
const GAP: f64 = 26.0;

/// What a panel is about.
struct Panel<'a> {
    stage: &'a str,
    fields: usize,
    /// False where there is no foreground, and the panel is about what is wrongly called so.
    dice: bool,
}

impl Panel<'_> {
    fn of(&self, row: &Row) -> Option<Interval> {
        let stage = row.stages.iter().find(|of| of.stage == self.stage)?;
        if self.dice { stage.dice } else { stage.false_positive.map(Interval::percent) }
    }
}

/// Draws the panels.
pub(super) fn by_stage(summary: &Summary, budget: u32) -> String {
    let rows: Vec<&Row> = summary.first().into_iter().chain(summary.at(budget)).collect();
    let panels = panels(&rows);
    let columns = panels.len().clamp(1, COLUMNS);
    let left = room_for(rows.iter().copied(), LEFT);
    let wide = (WIDTH - left - 16.0 - GAP * (columns - 1) as f64) / columns as f64;
    let tall = TOP + BOTTOM + LINE * rows.len() as f64;
    let height = tall * panels.len().div_ceil(columns) as f64;
    let mut svg = Svg::new(WIDTH, height, &format!("Dice by stage of disease with {budget} patches a site"));
    for (index, panel) in panels.iter().enumerate() {
        let corner = (left + (wide + GAP) * (index % columns) as f64, tall * (index / columns) as f64);
        if index % columns == 0 {
            for (place, row) in rows.iter().enumerate() {
                let y = corner.1 + TOP + LINE * (place as f64 + 0.5);
                svg.text((left - 12.0, y + 4.5), 12.5, Anchor::End, Ink::Text, &row.arm);
            }
        }
        let alike: Vec<&Panel<'_>> = panels.iter().filter(|other| other.dice == panel.dice).collect();
        draw(&mut svg, corner, wide, panel, &rows, range(&alike, &rows));
    }
    svg.finish()
}

/// The stages of the first row, which are those of all, in their order.
fn panels<'a>(rows: &[&'a Row]) -> Vec<Panel<'a>> {
    let told: Vec<&StageFigures> = rows.first().map_or(Vec::new(), |row| row.stages.iter().collect());
    told.into_iter()
        .map(|of| {
            let dice = of.with_foreground > 0;
            Panel { stage: &of.stage, fields: if dice { of.with_foreground } else { of.fields }, dice }
        })
        .collect()
}

/// What the axes of panels of one kind span.
fn range(panels: &[&Panel<'_>], rows: &[&Row]) -> (f64, f64) {
    let all = || panels.iter().flat_map(|panel| rows.iter().filter_map(|row| panel.of(row)));
    let dice = panels.first().is_some_and(|panel| panel.dice);
    let high = all().map(|i| i.high).fold(0.0, f64::max);
    if !dice {
        return (0.0, (high * 1.04).max(0.01));
    }
    let low = all().map(|i| i.low).fold(1.0, f64::min);
    let room = (high - low).max(0.02) * 0.04;
    ((low - room).max(0.0), (high + room).min(1.0))
}

fn draw(svg: &mut Svg, corner: (f64, f64), wide: f64, panel: &Panel<'_>, rows: &[&Row], (low, high): (f64, f64)) {
    let bottom = corner.1 + TOP + LINE * rows.len() as f64;
    let x_of = |value: f64| corner.0 + (value - low) / (high - low) * wide;
    let marks = ticks(low, high, 3);
    let step = if marks.len() > 1 { marks[1] - marks[0] } else { 0.1 };
    for value in marks {
        svg.grid((x_of(value), corner.1 + TOP), (x_of(value), bottom));
        svg.text((x_of(value), bottom + 16.0), 11.5, Anchor::Middle, Ink::Soft, &tick_text(value, step));
    }
    svg.line((corner.0, bottom), (corner.0 + wide, bottom), Ink::Soft, 1.0);
    let first = rows.first().filter(|row| row.budget == 0).and_then(|row| panel.of(row));
    if let Some(first) = first {
        let x = x_of(first.mean);
        svg.polyline(&[(x, corner.1 + TOP), (x, bottom)], Ink::Soft, 1.3, Some("5 4"));
    }
    for (place, row) in rows.iter().enumerate() {
        let Some(value) = panel.of(row) else { continue };
        let y = corner.1 + TOP + LINE * (place as f64 + 0.5);
        let ink = ink(row);
        svg.line((x_of(value.low), y), (x_of(value.high), y), ink, 1.8);
        svg.mark((x_of(value.mean), y), 4.2, ink, 0);
    }
    let fields = if panel.fields == 1 { "field" } else { "fields" };
    svg.strong((corner.0, corner.1 + 18.0), 12.5, Anchor::Start, Ink::Text, panel.stage);
    let count = format!("{} {fields}", panel.fields);
    svg.text((corner.0, corner.1 + 34.0), 11.5, Anchor::Start, Ink::Soft, &count);
    let axis = if panel.dice { "mean Dice" } else { "wrongly foreground (%)" };
    svg.text((corner.0 + wide / 2.0, bottom + 35.0), 12.0, Anchor::Middle, Ink::Text, axis);
}
