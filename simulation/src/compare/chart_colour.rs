//! The sites in colour: chromaticity, density and its spread, one mark a field, and small pictures that are the key.

use super::colour::{FieldColour, SiteColours};
use crate::report::svg::{Anchor, Ink, Svg, tick_text, ticks};

const WIDTH: f64 = 760.0;
/// Height of the two panels with their axes.
const PANELS: f64 = 330.0;
/// Where the panels begin, how wide and tall they are.
const LEFTS: [f64; 2] = [66.0, 450.0];
const SIZE: (f64, f64) = (290.0, 262.0);
const TOP: f64 = 14.0;
/// Side of a small picture, height of a site's line with pictures and without, and where its pictures begin.
const PICTURE: f64 = 56.0;
const LINE: f64 = 64.0;
const PLAIN_LINE: f64 = 40.0;
const PICTURES: f64 = 196.0;

/// A panel's axes: what they say and what they span.
struct Panel {
    left: f64,
    axes: (&'static str, &'static str),
    x: (f64, f64),
    y: (f64, f64),
}

impl Panel {
    /// A panel that holds all points.
    fn of(left: f64, axes: (&'static str, &'static str), points: &[(f64, f64)]) -> Self {
        let span = |of: &dyn Fn(&(f64, f64)) -> f64| {
            let low = points.iter().map(of).fold(f64::INFINITY, f64::min);
            let high = points.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
            let room = (high - low).max(0.02) * 0.07;
            if low.is_finite() { (low - room, high + room) } else { (0.0, 1.0) }
        };
        Self { left, axes, x: span(&|point| point.0), y: span(&|point| point.1) }
    }

    fn at(&self, point: (f64, f64)) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| ((value - low) / (high - low)).clamp(0.0, 1.0);
        (self.left + share(point.0, self.x) * SIZE.0, TOP + (1.0 - share(point.1, self.y)) * SIZE.1)
    }

    fn frame(&self, svg: &mut Svg) {
        let bottom = TOP + SIZE.1;
        let (along, up) = (ticks(self.x.0, self.x.1, 5), ticks(self.y.0, self.y.1, 5));
        let step = |marks: &[f64]| if marks.len() > 1 { marks[1] - marks[0] } else { 0.01 };
        for &value in &up {
            let y = self.at((self.x.0, value)).1;
            svg.grid((self.left, y), (self.left + SIZE.0, y));
            svg.text((self.left - 6.0, y + 4.0), 11.5, Anchor::End, Ink::Soft, &number(value, step(&up)));
        }
        for &value in &along {
            let x = self.at((value, self.y.0)).0;
            svg.line((x, bottom), (x, bottom + 4.0), Ink::Soft, 1.0);
            svg.text((x, bottom + 17.0), 11.5, Anchor::Middle, Ink::Soft, &number(value, step(&along)));
        }
        svg.line((self.left, bottom), (self.left + SIZE.0, bottom), Ink::Soft, 1.0);
        svg.text((self.left + SIZE.0 / 2.0, bottom + 38.0), 12.5, Anchor::Middle, Ink::Text, self.axes.0);
        svg.upright((self.left - 50.0, TOP + SIZE.1 / 2.0), 12.5, self.axes.1);
    }

    /// A site's fields, and their mean with a standard deviation each way.
    fn site(&self, svg: &mut Svg, points: &[(f64, f64)], ink: Ink, shape: usize) {
        for &point in points {
            svg.mark(self.at(point), 3.2, ink, shape);
        }
        let (x, y) = (mean_and_deviation(points, |p| p.0), mean_and_deviation(points, |p| p.1));
        svg.line(self.at((x.0 - x.1, y.0)), self.at((x.0 + x.1, y.0)), ink, 1.4);
        svg.line(self.at((x.0, y.0 - y.1)), self.at((x.0, y.0 + y.1)), ink, 1.4);
        svg.mark(self.at((x.0, y.0)), 5.8, ink, shape);
    }
}

/// Draws the sites.
pub(super) fn colours(sites: &[SiteColours]) -> String {
    let colour = |field: &FieldColour| field.chromaticity();
    let darkness = |field: &FieldColour| (field.darkness(), field.spread);
    let all = |of: &dyn Fn(&FieldColour) -> (f64, f64)| -> Vec<(f64, f64)> {
        sites.iter().flat_map(|site| &site.fields).map(of).collect()
    };
    let panels = [
        Panel::of(LEFTS[0], ("chromaticity: red against all", "chromaticity: green against blue"), &all(&colour)),
        Panel::of(LEFTS[1], ("mean optical density", "its standard deviation within the field"), &all(&darkness)),
    ];
    let plain = sites.iter().all(|site| site.thumbnails.is_empty());
    let (line, middle) = if plain { (PLAIN_LINE, PLAIN_LINE / 2.0) } else { (LINE, PICTURE / 2.0) };
    let mut svg = Svg::new(WIDTH, PANELS + line * sites.len() as f64, "The sites' fields in colour");
    panels.iter().for_each(|panel| panel.frame(&mut svg));
    let mut series = 0;
    for (place, site) in sites.iter().enumerate() {
        let (ink, shape) = if site.central { (Ink::Soft, 4) } else { (Ink::Series(series), series) };
        series += usize::from(!site.central);
        if !site.fields.is_empty() {
            panels[0].site(&mut svg, &site.fields.iter().map(colour).collect::<Vec<_>>(), ink, shape);
            panels[1].site(&mut svg, &site.fields.iter().map(darkness).collect::<Vec<_>>(), ink, shape);
        }
        key(&mut svg, PANELS + line * place as f64, middle, site, ink, shape);
    }
    svg.finish()
}

/// A site's name, its mark and its small pictures.
fn key(svg: &mut Svg, top: f64, middle: f64, site: &SiteColours, ink: Ink, shape: usize) {
    let middle = top + middle;
    svg.mark((16.0, middle - 7.0), 6.4, ink, shape);
    svg.text((32.0, middle - 2.5), 13.0, Anchor::Start, Ink::Text, &site.site);
    let fields = if site.fields.len() == 1 { "field" } else { "fields" };
    let role = if site.central { ", central" } else { "" };
    let about = format!("{} {fields}{role}", site.fields.len());
    svg.text((32.0, middle + 14.0), 11.5, Anchor::Start, Ink::Soft, &about);
    for (place, picture) in site.pictures().enumerate() {
        svg.image((PICTURES + (PICTURE + 8.0) * place as f64, top), (PICTURE, PICTURE), &picture);
    }
}

/// The mean of one coordinate, and its standard deviation between fields; of one field that is 0.
fn mean_and_deviation(points: &[(f64, f64)], of: impl Fn(&(f64, f64)) -> f64) -> (f64, f64) {
    let n = points.len() as f64;
    let mean = points.iter().map(&of).sum::<f64>() / n;
    let squares: f64 = points.iter().map(|point| (of(point) - mean).powi(2)).sum();
    (mean, if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

/// A tick's text with a real minus sign; 0 has none.
fn number(value: f64, step: f64) -> String {
    let text = tick_text(if value.abs() < step / 1e3 { 0.0 } else { value }, step);
    text.replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        let (mean, deviation) = mean_and_deviation(&[(1.0, 0.0), (2.0, 0.0), (6.0, 0.0)], |p| p.0);
        assert_eq!(mean, 3.0);
        assert!((deviation - 7f64.sqrt()).abs() < 1e-12);
        assert_eq!(mean_and_deviation(&[(1.0, 5.0)], |p| p.1), (5.0, 0.0));
    }
}
