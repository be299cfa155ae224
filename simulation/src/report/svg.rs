//! A small SVG writer. One drawing serves twice: inline in the report, where the page's style sheet colours it for light
//! and dark, and rasterised to PNG, where the attributes written here count. So every colour is an attribute, and every
//! element that the page may recolour has a class.

use std::fmt::Write as _;

/// Okabe and Ito's colours, safe for colour-blind readers, in the order in which series take them.
pub(crate) const PALETTE: [&str; 7] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800"];
/// The fonts of figures; the rasteriser has its own and falls back to it.
const FONT: &str = "Ubuntu, 'Ubuntu Light', system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif";

/// What a text or attribute may hold in XML: `&`, `<`, `>` and quotes are replaced, control characters dropped.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => {}
            c => out.push(c),
        }
    }
    out
}

/// A PNG or JPEG file as a data URI.
pub(crate) fn data_uri(bytes: &[u8]) -> String {
    use base64::Engine as _;
    let kind = if bytes.starts_with(b"\x89PNG") { "png" } else { "jpeg" };
    format!("data:image/{kind};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// Where a text stands on its point.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// The colour of a mark.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Ink {
    /// The text colour.
    Text,
    /// A softer text colour.
    Soft,
    /// The colour of a series.
    Series(usize),
}

impl Ink {
    pub(crate) fn colour(self) -> &'static str {
        match self {
            Self::Text => "#1b1f24",
            Self::Soft => "#6a737d",
            Self::Series(i) => PALETTE[i % PALETTE.len()],
        }
    }

    fn class(self, kind: char) -> String {
        match self {
            Self::Text => format!("{kind}t"),
            Self::Soft => format!("{kind}s"),
            Self::Series(i) => format!("{kind}{}", i % PALETTE.len()),
        }
    }
}

/// A figure being drawn; lengths are CSS pixels.
pub(crate) struct Svg {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

impl Svg {
    pub(crate) fn new(width: f64, height: f64, title: &str) -> Self {
        Self { width, height, title: title.to_owned(), body: String::new() }
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink, width: f64) {
        let (class, colour) = (ink.class('l'), ink.colour());
        let _ = writeln!(
            self.body,
            r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}" stroke-width="{width}"/>"#,
            from.0, from.1, to.0, to.1
        );
    }

    /// A faint line of the grid.
    pub(crate) fn grid(&mut self, from: (f64, f64), to: (f64, f64)) {
        let _ = writeln!(
            self.body,
            r##"<line class="grid" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="#e3e6ea" stroke-width="1"/>"##,
            from.0, from.1, to.0, to.1
        );
    }

    pub(crate) fn polyline(&mut self, points: &[(f64, f64)], ink: Ink, width: f64, dash: Option<&str>) {
        let list: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dash = dash.map(|d| format!(r#" stroke-dasharray="{d}""#)).unwrap_or_default();
        let (class, colour) = (ink.class('l'), ink.colour());
        let _ = writeln!(
            self.body,
            r#"<polyline class="{class}" points="{}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round" stroke-linecap="round"{dash}/>"#,
            list.join(" ")
        );
    }

    pub(crate) fn rect(&mut self, corner: (f64, f64), size: (f64, f64), ink: Ink) {
        let (class, colour) = (ink.class('f'), ink.colour());
        let _ = writeln!(
            self.body,
            r#"<rect class="{class}" x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{colour}"/>"#,
            corner.0, corner.1, size.0, size.1
        );
    }

    /// A mark of a series: the shape tells series apart without colour.
    pub(crate) fn mark(&mut self, at: (f64, f64), radius: f64, ink: Ink, shape: usize) {
        let (x, y, r) = (at.0, at.1, radius);
        let path = match shape % 5 {
            0 => format!("M{:.1} {y:.1}a{r} {r} 0 1 0 {} 0a{r} {r} 0 1 0 -{} 0z", x - r, 2.0 * r, 2.0 * r),
            1 => format!("M{:.1} {:.1}h{:.1}v{:.1}h-{:.1}z", x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8, r * 1.8),
            2 => format!("M{x:.1} {:.1}l{:.1} {:.1}h-{:.1}z", y - r * 1.15, r * 1.1, r * 1.95, r * 2.2),
            3 => format!(
                "M{x:.1} {:.1}l{:.1} {:.1}l-{:.1} {:.1}l-{:.1} -{:.1}z",
                y - r * 1.3,
                r * 1.3,
                r * 1.3,
                r * 1.3,
                r * 1.3,
                r * 1.3,
                r * 1.3
            ),
            _ => format!("M{x:.1} {:.1}l{:.1} -{:.1}h-{:.1}z", y + r * 1.15, r * 1.1, r * 1.95, r * 2.2),
        };
        let (class, colour) = (ink.class('f'), ink.colour());
        let _ = writeln!(
            self.body,
            r##"<path class="{class} halo" d="{path}" fill="{colour}" stroke="#ffffff" stroke-width="1"/>"##
        );
    }

    pub(crate) fn text(&mut self, at: (f64, f64), size: f64, anchor: Anchor, ink: Ink, text: &str) {
        self.write(at, size, anchor, ink, text, "");
    }

    /// Emphasised text: the light font has no bold cut, so its outline is thickened.
    pub(crate) fn strong(&mut self, at: (f64, f64), size: f64, anchor: Anchor, ink: Ink, text: &str) {
        let outline = format!(r#" stroke="{}" stroke-width="0.45""#, ink.colour());
        self.write(at, size, anchor, ink, text, &outline);
    }

    /// Text that runs upwards, for the title of a y axis.
    pub(crate) fn upright(&mut self, at: (f64, f64), size: f64, text: &str) {
        let turn = format!(r#" transform="rotate(-90 {:.1} {:.1})""#, at.0, at.1);
        self.write(at, size, Anchor::Middle, Ink::Text, text, &turn);
    }

    fn write(&mut self, at: (f64, f64), size: f64, anchor: Anchor, ink: Ink, text: &str, extra: &str) {
        let strong = if extra.contains("stroke-width") { " strong" } else { "" };
        let _ = writeln!(
            self.body,
            r#"<text class="{}{strong}" x="{:.1}" y="{:.1}" font-size="{size}" text-anchor="{}" fill="{}"{extra}>{}</text>"#,
            ink.class('f'),
            at.0,
            at.1,
            anchor.name(),
            ink.colour(),
            escape(text)
        );
    }

    /// A PNG or JPEG picture, embedded.
    pub(crate) fn image(&mut self, corner: (f64, f64), size: (f64, f64), bytes: &[u8]) {
        let _ = writeln!(
            self.body,
            r#"<image x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" preserveAspectRatio="none" href="{}"/>"#,
            corner.0,
            corner.1,
            size.0,
            size.1,
            data_uri(bytes)
        );
    }

    /// The whole drawing as an SVG document that is also fit to stand inside HTML.
    pub(crate) fn finish(self) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" \
             font-family=\"{FONT}\">\n<title>{}</title>\n{}</svg>\n",
            escape(&self.title),
            self.body,
            w = self.width,
            h = self.height
        )
    }
}

/// A drawing that stands by itself, where no page gives it a background.
pub(crate) fn on_white(svg: &str) -> String {
    svg.replacen("<svg ", "<svg style=\"background:#ffffff\" ", 1)
}

/// Round tick values that cover `low..high` with about `count` steps.
pub(crate) fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let raw = (high - low).max(1e-9) / count.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw * 0.999).unwrap_or(power);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// A tick's text: as many digits as its step needs.
pub(crate) fn tick_text(value: f64, step: f64) -> String {
    let digits = (0..4).find(|d| ((step * 10f64.powi(*d)).round() - step * 10f64.powi(*d)).abs() < 1e-6).unwrap_or(4);
    format!("{value:.*}", digits as usize)
}

/// Moves labels apart until each has `gap` above and below, keeping their order; returns the new positions.
pub(crate) fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut out = wanted.to_vec();
    for pair in 1..order.len() {
        out[order[pair]] = out[order[pair]].max(out[order[pair - 1]] + gap);
    }
    let overflow = order.last().map_or(0.0, |last| (out[*last] - high).max(0.0));
    if overflow > 0.0 {
        let mut ceiling = high;
        for index in order.iter().rev() {
            out[*index] = out[*index].min(ceiling);
            ceiling = out[*index] - gap;
        }
    }
    out.iter_mut().for_each(|v| *v = v.max(low - gap));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_into_markup() {
        assert_eq!(escape(r#"<b a="1">&'x'"#), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;x&#39;");
        assert_eq!(escape("a\u{0}\u{1b}[31mb"), "a[31mb");
        let mut svg = Svg::new(10.0, 10.0, "</title><script>");
        svg.text((1.0, 1.0), 9.0, Anchor::Start, Ink::Text, "</text><script>alert(1)</script>");
        let text = svg.finish();
        assert!(!text.contains("<script>"), "{text}");
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 1.0, 5), vec![0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        let fine = ticks(0.43, 0.71, 5);
        assert!(fine.iter().all(|t| (0.43..=0.71).contains(t)) && fine.len() >= 3, "{fine:?}");
        assert_eq!(tick_text(0.6000000000000001, 0.2), "0.6");
        assert_eq!(tick_text(40.0, 20.0), "40");
        assert_eq!(tick_text(0.25, 0.05), "0.25");
    }

    #[test]
    fn labels_do_not_overlap() {
        let places = spread(&[10.0, 11.0, 50.0, 12.0], 14.0, 0.0, 60.0);
        let mut sorted = places.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(sorted.windows(2).all(|w| w[1] - w[0] >= 13.9), "{places:?}");
        assert!(sorted[3] <= 60.0);
    }
}
