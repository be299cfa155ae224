//! Uncertainty against Dice, one mark a patch: does the ensemble know where it is wrong?

use crate::experiment::Metrics;

use super::stats::spearman;
use super::svg::{Anchor, Ink, Svg, tick_text, ticks};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 430.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 196.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 54.0;

/// Patches with a Dice: mean uncertainty and Dice.
pub(crate) fn pairs(metrics: &Metrics) -> Vec<(f64, f64)> {
    metrics.patches.iter().filter_map(|p| Some((p.mean_uncertainty, p.dice_before?))).collect()
}

/// Draws the chart.
pub(crate) fn draw(metrics: &Metrics) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT, "Mean uncertainty against Dice before correction, by patch");
    let all = pairs(metrics);
    let most = all.iter().map(|p| p.0).fold(0.0, f64::max).max(0.05);
    let least = all.iter().map(|p| p.0).fold(most, f64::min);
    let room = (most - least).max(0.02) * 0.06;
    let (low, high) = ((least - room).max(0.0), most + room);
    let x_of = |u: f64| LEFT + (u - low) / (high - low) * (WIDTH - LEFT - RIGHT);
    let y_of = |d: f64| HEIGHT - BOTTOM - d * (HEIGHT - TOP - BOTTOM);
    for value in ticks(0.0, 1.0, 5) {
        svg.grid((LEFT, y_of(value)), (WIDTH - RIGHT, y_of(value)));
        svg.text((LEFT - 8.0, y_of(value) + 4.0), 12.0, Anchor::End, Ink::Soft, &tick_text(value, 0.2));
    }
    let marks = ticks(low, high, 6);
    let step = if marks.len() > 1 { marks[1] - marks[0] } else { 0.1 };
    for value in marks {
        let x = x_of(value);
        svg.line((x, HEIGHT - BOTTOM), (x, HEIGHT - BOTTOM + 4.0), Ink::Soft, 1.0);
        svg.text((x, HEIGHT - BOTTOM + 18.0), 12.0, Anchor::Middle, Ink::Soft, &tick_text(value, step));
    }
    svg.line((LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM), Ink::Soft, 1.0);
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    svg.text((middle, HEIGHT - 12.0), 13.0, Anchor::Middle, Ink::Text, "mean uncertainty of the patch (nats)");
    svg.upright((16.0, (TOP + HEIGHT - BOTTOM) / 2.0), 13.0, "Dice of the prediction before correction");

    let mut series = 0;
    let mut row = 0u32;
    for site in &metrics.sites {
        let central = *site == metrics.central;
        let ink = if central { Ink::Soft } else { Ink::Series(series) };
        let shape = if central { 4 } else { series };
        series += usize::from(!central);
        let mut marks = 0;
        for patch in metrics.patches.iter().filter(|p| p.site == *site) {
            if let Some(dice) = patch.dice_before {
                svg.mark((x_of(patch.mean_uncertainty), y_of(dice)), 4.6, ink, shape);
                marks += 1;
            }
        }
        // The central site is asked for nothing where its slides are outlined in full.
        if marks == 0 {
            continue;
        }
        let y = TOP + 12.0 + f64::from(row) * 22.0;
        row += 1;
        svg.mark((WIDTH - RIGHT + 20.0, y), 4.8, ink, shape);
        let name = if central { format!("{site} (central)") } else { site.to_string() };
        svg.text(
            (WIDTH - RIGHT + 32.0, y + 4.5),
            13.0,
            Anchor::Start,
            if central { Ink::Soft } else { Ink::Text },
            &name,
        );
    }
    let y = TOP + 12.0 + f64::from(row) * 22.0 + 18.0;
    let rho = spearman(&all).map_or("no rank correlation".to_owned(), |rho| format!("Spearman ρ = {}", signed(rho)));
    svg.strong((WIDTH - RIGHT + 14.0, y), 13.5, Anchor::Start, Ink::Text, &rho);
    let count = format!("{} patches", all.len());
    svg.text((WIDTH - RIGHT + 14.0, y + 19.0), 12.5, Anchor::Start, Ink::Soft, &count);
    svg.finish()
}

/// A signed figure with a real minus sign.
pub(crate) fn signed(value: f64) -> String {
    if value < 0.0 { format!("−{:.2}", -value) } else { format!("+{value:.2}") }
}
