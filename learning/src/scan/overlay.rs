//! Uncertainty for the eye: heat colours over a thumbnail of the slide, with a colour bar.
//!
//! The scale is the same for every slide of a task, so pictures can be compared: it ends at `ln classes`, the most that
//! entropy alone can reach; beyond that, which takes contradicting members, the colour stays.

use image::{Rgb, RgbImage, imageops};

use super::ScanResult;
use super::font::{fill_box, text_size, write_text};

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

/// A pixel of the slide, paled towards grey so that heat stands out, under its heat.
fn blend(under: Rgb<u8>, fraction: f32) -> Rgb<u8> {
    let (colour, opacity) = heat(fraction);
    let [r, g, b] = under.0.map(f32::from);
    let grey = 0.299 * r + 0.587 * g + 0.114 * b;
    Rgb(std::array::from_fn(|i| {
        let paled = 0.5 * f32::from(under.0[i]) + 0.3 * grey + 0.2 * 255.0;
        (paled + opacity * (colour[i] - paled)).round() as u8
    }))
}

/// Heat colours over a thumbnail of the whole slide, and the colour bar beside it.
pub fn overlay_image(thumbnail: &RgbImage, result: &ScanResult) -> RgbImage {
    let (width, height) = thumbnail.dimensions();
    let (label_width, _) = text_size("0.0", TEXT_SCALE);
    let canvas_width = width + 2 * MARGIN + BAR_WIDTH + 10 + label_width;
    let mut canvas = RgbImage::from_pixel(canvas_width, height.max(MIN_HEIGHT), PAPER);
    imageops::replace(&mut canvas, thumbnail, 0, 0);
    let (columns, rows) = (spans(width, result.width), spans(height, result.height));
    let full = full_scale(result.classes);
    for (y, &(top, bottom)) in rows.iter().enumerate() {
        for (x, &(left, right)) in columns.iter().enumerate() {
            let fraction = mean_on_tissue(result, left..right, top..bottom).map_or(0.0, |nats| nats / full);
            let pixel = canvas.get_pixel_mut(x as u32, y as u32);
            *pixel = blend(*pixel, fraction);
        }
    }
    draw_bar(&mut canvas, width + MARGIN, full);
    canvas
}

/// For each of `parts` pixels, the pixels of the map that it shows: at least one.
fn spans(parts: u32, length: u32) -> Vec<(usize, usize)> {
    let edge = |i: u32| (u64::from(i) * u64::from(length) / u64::from(parts.max(1))) as usize;
    let last = length.saturating_sub(1) as usize;
    (0..parts).map(|i| (edge(i).min(last), edge(i + 1).max(edge(i) + 1).min(length as usize))).collect()
}

/// Mean uncertainty over the tissue of a box; `None` where less than half of it is tissue.
fn mean_on_tissue(result: &ScanResult, xs: std::ops::Range<usize>, ys: std::ops::Range<usize>) -> Option<f32> {
    let (mut sum, mut count, pixels) = (0.0, 0usize, xs.len() * ys.len());
    for y in ys {
        let line = y * result.width as usize;
        let tissue = &result.tissue.as_raw()[line..][xs.clone()];
        for (&here, &nats) in tissue.iter().zip(&result.uncertainty.data[line..][xs.clone()]) {
            if here != 0 {
                sum += nats;
                count += 1;
            }
        }
    }
    (count > 0 && 2 * count >= pixels).then(|| sum / count as f32)
}

fn draw_bar(canvas: &mut RgbImage, left: u32, full: f32) {
    let (_, text_height) = text_size("nats", TEXT_SCALE);
    let top = MARGIN + text_height + 8;
    let height = (canvas.height() - top - MARGIN).min(MAX_BAR_HEIGHT);
    write_text(canvas, "nats", left, MARGIN, TEXT_SCALE, INK);
    fill_box(canvas, left, top, BAR_WIDTH, height, INK);
    for y in 1..height.saturating_sub(1) {
        let fraction = 1.0 - y as f32 / (height - 1) as f32;
        fill_box(canvas, left + 1, top + y, BAR_WIDTH - 2, 1, blend(PAPER, fraction));
    }
    // Ticks a fifth of a nat apart, or wider where they would touch.
    let gap = if full / 0.2 * (text_height + 6) as f32 > height as f32 { 0.5 } else { 0.2 };
    for tick in 0..=(full / gap) as u32 {
        let nats = tick as f32 * gap;
        let y = top + ((1.0 - nats / full) * (height - 1) as f32).round() as u32;
        fill_box(canvas, left + BAR_WIDTH, y, 5, 1, INK);
        let text_top = y.saturating_sub(text_height / 2);
        write_text(canvas, &format!("{nats:.1}"), left + BAR_WIDTH + 9, text_top, TEXT_SCALE, INK);
    }
}
