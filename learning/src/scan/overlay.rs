//! Pictures for the eye over a thumbnail of the slide: uncertainty as heat with a colour bar, classes with a legend.
//!
//! The heat scale is the same for every slide of a task, so pictures can be compared: it ends at `ln classes`, the most
//! that entropy alone can reach; beyond that, which takes contradicting members, the colour stays.

use image::{Rgb, RgbImage, imageops};

use super::font::{fill_box, text_size, write_text};
use super::palette::class_colour;
use super::reduced::{Cell, Reduced};

/// From hardly to very uncertain: yellow, orange, red, purple, nearly black. Dark end last, so that it also reads in grey.
const STOPS: [[f32; 3]; 5] =
    [[255.0, 238.0, 120.0], [253.0, 174.0, 50.0], [230.0, 65.0, 50.0], [150.0, 10.0, 110.0], [45.0, 0.0, 75.0]];
const INK: Rgb<u8> = Rgb([40, 40, 40]);
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const MARGIN: u32 = 12;
const BAR_WIDTH: u32 = 22;
const MAX_BAR_HEIGHT: u32 = 480;
const MIN_HEIGHT: u32 = 160;
const TEXT_SCALE: u32 = 2;
/// From a line of the legend to the next.
const LINE: u32 = 26;
/// Characters of a class name in the legend.
const NAME_CHARS: usize = 24;

fn full_scale(classes: usize) -> f32 {
    (classes.max(2) as f32).ln()
}

/// Colour and opacity at a fraction of the scale. What is certain stays see-through.
fn heat(fraction: f32) -> ([f32; 3], f32) {
    let fraction = fraction.clamp(0.0, 1.0);
    let place = fraction * (STOPS.len() - 1) as f32;
    // Between 0 and 3: clamped above, and a NaN becomes 0.
    let below = (place as usize).min(STOPS.len() - 2);
    let t = place - below as f32;
    let colour = std::array::from_fn(|i| STOPS[below][i] + t * (STOPS[below + 1][i] - STOPS[below][i]));
    (colour, (fraction * 6.0).min(1.0) * 0.85)
}

/// A pixel of the slide, paled towards grey so that colours stand out, under a colour.
fn blend(under: Rgb<u8>, colour: [f32; 3], opacity: f32) -> Rgb<u8> {
    let [r, g, b] = under.0.map(f32::from);
    let grey = 0.299 * r + 0.587 * g + 0.114 * b;
    Rgb(std::array::from_fn(|i| {
        let paled = 0.5 * f32::from(under.0[i]) + 0.3 * grey + 0.2 * 255.0;
        (paled + opacity * (colour[i] - paled)).round() as u8
    }))
}

fn heated(under: Rgb<u8>, fraction: f32) -> Rgb<u8> {
    let (colour, opacity) = heat(fraction);
    blend(under, colour, opacity)
}

/// Uncertainty as heat over a thumbnail of the whole slide, and the colour bar beside it. `reduced` has the thumbnail's
/// size.
pub(super) fn overlay_image(thumbnail: &RgbImage, reduced: &Reduced, classes: usize) -> RgbImage {
    let (label_width, _) = text_size("0.0", TEXT_SCALE);
    let full = full_scale(classes);
    let side = 2 * MARGIN + BAR_WIDTH + 10 + label_width;
    let colour = |under, cell: Cell| heated(under, cell.nats.map_or(0.0, |nats| nats / full));
    let mut canvas = canvas(thumbnail, reduced, side, MIN_HEIGHT, &colour);
    draw_bar(&mut canvas, thumbnail.width() + MARGIN, full);
    canvas
}

/// Classes in their colours over a thumbnail of the whole slide, and a legend beside it. The more of a pixel is
/// foreground, the more it is coloured. `names` are all classes, the background first.
pub(super) fn labels_overlay_image(thumbnail: &RgbImage, reduced: &Reduced, names: &[String]) -> RgbImage {
    let names: Vec<String> = names.iter().skip(1).map(|name| shortened(name)).collect();
    let widest = names.iter().map(|name| text_size(name, TEXT_SCALE).0).max().unwrap_or(0);
    let (side, least) = (2 * MARGIN + BAR_WIDTH + 8 + widest, 2 * MARGIN + names.len() as u32 * LINE);
    let colour = |under, cell: Cell| {
        let opacity = if cell.share > 0.0 { 0.2 + 0.6 * cell.share } else { 0.0 };
        blend(under, cell.colour.map(f32::from), opacity)
    };
    let mut canvas = canvas(thumbnail, reduced, side, least, &colour);
    let left = thumbnail.width() + MARGIN;
    for (index, name) in names.iter().enumerate() {
        let top = MARGIN + index as u32 * LINE;
        fill_box(&mut canvas, left, top, BAR_WIDTH, LINE - 8, INK);
        fill_box(&mut canvas, left + 1, top + 1, BAR_WIDTH - 2, LINE - 10, Rgb(class_colour(index + 1)));
        write_text(&mut canvas, name, left + BAR_WIDTH + 8, top + 2, TEXT_SCALE, INK);
    }
    canvas
}

/// The thumbnail with every pixel coloured, on paper with room at its right.
fn canvas(
    thumbnail: &RgbImage,
    reduced: &Reduced,
    side: u32,
    least_height: u32,
    colour: &dyn Fn(Rgb<u8>, Cell) -> Rgb<u8>,
) -> RgbImage {
    let (width, height) = thumbnail.dimensions();
    let mut canvas = RgbImage::from_pixel(width + side, height.max(least_height), PAPER);
    imageops::replace(&mut canvas, thumbnail, 0, 0);
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let pixel = canvas.get_pixel_mut(x, y);
        *pixel = colour(*pixel, reduced.cell(x, y));
    }
    canvas
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_CHARS {
        return name.to_owned();
    }
    name.chars().take(NAME_CHARS - 2).chain("..".chars()).collect()
}

fn draw_bar(canvas: &mut RgbImage, left: u32, full: f32) {
    let (_, text_height) = text_size("nats", TEXT_SCALE);
    let top = MARGIN + text_height + 10;
    let height = (canvas.height() - top - MARGIN).min(MAX_BAR_HEIGHT);
    write_text(canvas, "nats", left, MARGIN, TEXT_SCALE, INK);
    fill_box(canvas, left, top, BAR_WIDTH, height, INK);
    for y in 1..height.saturating_sub(1) {
        let fraction = 1.0 - y as f32 / (height - 1) as f32;
        fill_box(canvas, left + 1, top + y, BAR_WIDTH - 2, 1, heated(PAPER, fraction));
    }
    // Ticks a fifth of a nat apart, or wider where they would touch.
    let gap = if full / 0.2 * (text_height + 6) as f32 > height as f32 { 0.5 } else { 0.2 };
    for tick in 0..=(full / gap) as u32 {
        let nats = tick as f32 * gap;
        let y = top + ((1.0 - nats / full) * (height - 1) as f32).round() as u32;
        fill_box(canvas, left + BAR_WIDTH, y, 5, 1, INK);
        // Seven of the eight dots of a digit's height are ink.
        let text_top = y.saturating_sub(7 * TEXT_SCALE / 2);
        write_text(canvas, &format!("{nats:.1}"), left + BAR_WIDTH + 9, text_top, TEXT_SCALE, INK);
    }
}
