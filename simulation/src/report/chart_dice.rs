//! Dice by site and generation: one line a site, their mean bold, the central site dashed, labelled at their ends.

use crate::experiment::Metrics;

use super::svg::{Anchor, Ink, Svg, spread, tick_text, ticks};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 430.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 196.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 54.0;

struct Line {
    name: String,
    /// Generation and Dice.
    points: Vec<(f64, f64)>,
    ink: Ink,
    shape: usize,
    mean: bool,
    central: bool,
}

fn lines(metrics: &Metrics) -> Vec<Line> {
    let mut out = Vec::new();
    let mut series = 0;
    for site in &metrics.sites {
        let central = *site == metrics.central;
        let points = metrics.generations.iter().filter_map(|g| Some((f64::from(g.generation), *g.sites.get(site)?)));
        let ink = if central { Ink::Soft } else { Ink::Series(series) };
        let name = if central { format!("{site} (central)") } else { site.to_string() };
        out.push(Line { name, points: points.collect(), ink, shape: series, mean: false, central });
        series += usize::from(!central);
    }
    let points = metrics.generations.iter().filter_map(|g| Some((f64::from(g.generation), g.mean_dice?)));
    let name = format!("mean of {}", metrics.mean_over.len());
    out.push(Line { name, points: points.collect(), ink: Ink::Text, shape: 0, mean: true, central: false });
    out.retain(|line| !line.points.is_empty());
    out
}

/// Draws the chart.
pub(crate) fn draw(metrics: &Metrics) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT, "Dice on held-out slides by site and generation");
    let lines = lines(metrics);
    let values = || lines.iter().flat_map(|l| l.points.iter().map(|p| p.1));
    let lowest = values().fold(1.0, f64::min);
    let highest = values().fold(0.0, f64::max);
    let step = if highest - lowest > 0.4 { 0.1 } else { 0.05 };
    let low = ((lowest - 0.02) / step).floor().max(0.0) * step;
    let high = (((highest + 0.02) / step).ceil() * step).min(1.0).max(low + step);
    let last = metrics.generations.iter().map(|g| f64::from(g.generation)).fold(1.0, f64::max);
    let x_of = |g: f64| LEFT + 44.0 + g / last * (WIDTH - LEFT - RIGHT - 58.0);
    let y_of = |d: f64| HEIGHT - BOTTOM - (d - low) / (high - low) * (HEIGHT - TOP - BOTTOM);

    let marks = ticks(low, high, 6);
    let tick_step = if marks.len() > 1 { marks[1] - marks[0] } else { step };
    for value in marks {
        svg.grid((LEFT, y_of(value)), (WIDTH - RIGHT, y_of(value)));
        svg.text((LEFT - 8.0, y_of(value) + 4.0), 12.0, Anchor::End, Ink::Soft, &tick_text(value, tick_step));
    }
    let count = metrics.generations.len().max(1);
    let every = count.div_ceil(12);
    for generation in metrics.generations.iter().step_by(every) {
        let x = x_of(f64::from(generation.generation));
        svg.line((x, HEIGHT - BOTTOM), (x, HEIGHT - BOTTOM + 4.0), Ink::Soft, 1.0);
        let label = generation.generation.to_string();
        svg.text((x, HEIGHT - BOTTOM + 18.0), 12.0, Anchor::Middle, Ink::Soft, &label);
    }
    svg.line((LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM), Ink::Soft, 1.0);
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let axis = "generation (0 = trained at the central site alone)";
    svg.text((middle, HEIGHT - 12.0), 13.0, Anchor::Middle, Ink::Text, axis);
    svg.upright((16.0, (TOP + HEIGHT - BOTTOM) / 2.0), 13.0, "Dice on held-out slides (0 to 1)");

    for line in &lines {
        let points: Vec<(f64, f64)> = line.points.iter().map(|p| (x_of(p.0), y_of(p.1))).collect();
        let (width, dash) = if line.mean { (3.6, None) } else { (1.7, line.central.then_some("5 4")) };
        svg.polyline(&points, line.ink, width, dash);
        for point in &points {
            svg.mark(*point, if line.mean { 5.0 } else { 4.0 }, line.ink, line.shape);
        }
    }
    labels(&mut svg, &lines, &x_of, &y_of);
    svg.finish()
}

/// Names and last values at the right ends, moved apart, with a thin leader where one had to move.
fn labels(svg: &mut Svg, lines: &[Line], x_of: &dyn Fn(f64) -> f64, y_of: &dyn Fn(f64) -> f64) {
    let ends: Vec<(f64, f64)> = lines.iter().filter_map(|l| l.points.last()).copied().collect();
    let wanted: Vec<f64> = ends.iter().map(|p| y_of(p.1)).collect();
    let places = spread(&wanted, 17.0, TOP, HEIGHT - BOTTOM);
    for ((line, end), place) in lines.iter().zip(&ends).zip(&places) {
        let (x, y) = (x_of(end.0) + 8.0, y_of(end.1));
        let text_x = WIDTH - RIGHT + 16.0;
        svg.polyline(&[(x, y), (text_x - 7.0, *place)], line.ink, 0.8, None);
        svg.mark((text_x, *place), 4.0, line.ink, line.shape);
        let text = format!("{} {:.2}", line.name, end.1);
        let at = (text_x + 9.0, place + 4.5);
        if line.mean {
            svg.strong(at, 13.5, Anchor::Start, Ink::Text, &text);
        } else {
            svg.text(at, 13.0, Anchor::Start, if line.central { Ink::Soft } else { Ink::Text }, &text);
        }
    }
    if let Some(mean) = lines.iter().find(|l| l.mean)
        && let Some(first) = mean.points.first()
    {
        let at = (x_of(first.0) - 10.0, y_of(first.1) + 4.5);
        svg.strong(at, 12.5, Anchor::End, Ink::Text, &format!("{:.2}", first.1));
    }
}
