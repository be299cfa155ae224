//! Where the time went: one bar for the whole run by step, one for each site by stage.

use crate::experiment::Timing;

use super::svg::{Anchor, Ink, Svg, tick_text, ticks};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 128.0;
const RIGHT: f64 = 64.0;
const BAR: f64 = 24.0;
const GAP: f64 = 12.0;
/// The site's stages in the order of the loop; others follow by name.
const STAGES: [&str; 7] = ["download", "scan", "select", "correct", "fine-tune", "upload", "evaluate"];

struct Bar {
    name: String,
    parts: Vec<(String, f64)>,
}

fn site_bars(timing: &Timing) -> Vec<Bar> {
    let order = |stage: &str| STAGES.iter().position(|s| *s == stage).unwrap_or(STAGES.len());
    let bar = |(site, stages): (&str, &std::collections::BTreeMap<String, f64>)| {
        let mut parts: Vec<(String, f64)> = stages.iter().map(|(k, v)| (k.clone(), *v)).collect();
        parts.sort_by_key(|(stage, _)| order(stage));
        Bar { name: site.to_owned(), parts }
    };
    timing.sites.iter().map(|(site, stages)| bar((site.as_str(), stages))).collect()
}

/// Draws the chart.
pub(crate) fn draw(timing: &Timing) -> String {
    let run =
        Bar { name: "whole run".into(), parts: timing.steps.iter().map(|s| (s.what.clone(), s.seconds)).collect() };
    let sites = site_bars(timing);
    let height = 182.0 + sites.len() as f64 * (BAR + GAP);
    let mut svg = Svg::new(WIDTH, height, "Time by stage");
    let total = |bar: &Bar| bar.parts.iter().map(|p| p.1).sum::<f64>();
    let longest = sites.iter().map(total).fold(total(&run), f64::max).max(0.1);
    let unit = (WIDTH - LEFT - RIGHT) / longest;

    let mut y = 30.0;
    heading(&mut svg, y - 12.0, "The run, step by step");
    bar(&mut svg, &run, y, unit);
    y = key(&mut svg, &run.parts.iter().map(|p| p.0.as_str()).collect::<Vec<_>>(), y + BAR + 18.0);
    heading(&mut svg, y + 34.0, "Each site's work, all rounds together (sites share this machine and overlap in time)");
    y += 46.0;
    let top = y;
    let mut names: Vec<&str> = Vec::new();
    for site in &sites {
        bar(&mut svg, site, y, unit);
        site.parts.iter().for_each(|p| {
            if !names.contains(&p.0.as_str()) {
                names.push(&p.0)
            }
        });
        y += BAR + GAP;
    }
    for second in ticks(0.0, longest, 6) {
        let x = LEFT + second * unit;
        svg.line((x, y - GAP + 4.0), (x, y - GAP + 8.0), Ink::Soft, 1.0);
        svg.text((x, y + 10.0), 12.0, Anchor::Middle, Ink::Soft, &tick_text(second, 1.0));
    }
    svg.line((LEFT, y - GAP + 4.0), (WIDTH - RIGHT, y - GAP + 4.0), Ink::Soft, 1.0);
    svg.line((LEFT, top - 3.0), (LEFT, y - GAP + 4.0), Ink::Soft, 1.0);
    svg.text(((LEFT + WIDTH - RIGHT) / 2.0, y + 27.0), 13.0, Anchor::Middle, Ink::Text, "time (s)");
    key(&mut svg, &names, y + 51.0);
    svg.finish()
}

fn heading(svg: &mut Svg, y: f64, text: &str) {
    svg.strong((0.0, y), 13.0, Anchor::Start, Ink::Text, text);
}

/// One stacked bar; a colour belongs to a part's place in the stack of its own group.
fn bar(svg: &mut Svg, bar: &Bar, y: f64, unit: f64) {
    svg.text((LEFT - 10.0, y + BAR * 0.68), 13.0, Anchor::End, Ink::Text, &bar.name);
    let mut x = LEFT;
    for (name, seconds) in &bar.parts {
        let width = seconds * unit;
        let colour = STAGES.iter().position(|s| s == name).unwrap_or_else(|| place(name, bar));
        svg.rect((x, y), ((width - 0.7).max(0.0), BAR), Ink::Series(colour));
        x += width;
    }
    let total: f64 = bar.parts.iter().map(|p| p.1).sum();
    svg.text((x + 6.0, y + BAR * 0.68), 12.5, Anchor::Start, Ink::Text, &format!("{total:.0} s"));
}

fn place(name: &str, bar: &Bar) -> usize {
    bar.parts.iter().position(|p| p.0 == name).unwrap_or(0)
}

/// The key of a stack, wrapped; returns the y below it.
fn key(svg: &mut Svg, names: &[&str], mut y: f64) -> f64 {
    let mut x = LEFT;
    for (index, name) in names.iter().enumerate() {
        let width = 26.0 + 7.0 * name.chars().count() as f64;
        if x + width > WIDTH - 8.0 {
            x = LEFT;
            y += 20.0;
        }
        let colour = STAGES.iter().position(|s| s == name).unwrap_or(index);
        svg.rect((x, y - 9.0), (11.0, 11.0), Ink::Series(colour));
        svg.text((x + 16.0, y + 1.0), 12.5, Anchor::Start, Ink::Text, name);
        x += width;
    }
    y
}
