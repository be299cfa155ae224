//! The few characters of the colour bar, 5 x 7 dots each: no font file is needed to label an axis.

use image::{Rgb, RgbImage};

const WIDTH: u32 = 5;
const HEIGHT: u32 = 7;

/// One byte a row, the leftmost dot in bit 4.
fn glyph(character: char) -> [u8; HEIGHT as usize] {
    match character {
        '0' => [0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e],
        '1' => [0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e],
        '2' => [0x0e, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1f],
        '3' => [0x1f, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0e],
        '4' => [0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02],
        '5' => [0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e],
        '6' => [0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e],
        '7' => [0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08],
        '8' => [0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e],
        '9' => [0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c],
        '.' => [0x00, 0x00, 0x00, 0x00, 0x00, 0x0c, 0x0c],
        'a' => [0x00, 0x00, 0x0e, 0x01, 0x0f, 0x11, 0x0f],
        'n' => [0x00, 0x00, 0x16, 0x19, 0x11, 0x11, 0x11],
        's' => [0x00, 0x00, 0x0e, 0x10, 0x0e, 0x01, 0x1e],
        't' => [0x08, 0x08, 0x1c, 0x08, 0x08, 0x09, 0x06],
        _ => [0; HEIGHT as usize],
    }
}

/// Pixels that a text takes.
pub(super) fn text_size(text: &str, scale: u32) -> (u32, u32) {
    (text.chars().count() as u32 * (WIDTH + 1) * scale, HEIGHT * scale)
}

/// Writes a text with its top-left corner at (x, y); what lies outside the image is left out.
pub(super) fn write_text(image: &mut RgbImage, text: &str, x: u32, y: u32, scale: u32, colour: Rgb<u8>) {
    for (index, character) in text.chars().enumerate() {
        let left = x + index as u32 * (WIDTH + 1) * scale;
        for (row, bits) in glyph(character).into_iter().enumerate() {
            for column in (0..WIDTH).filter(|column| bits >> (WIDTH - 1 - column) & 1 == 1) {
                fill_box(image, left + column * scale, y + row as u32 * scale, scale, scale, colour);
            }
        }
    }
}

/// Fills a box; what lies outside the image is left out.
pub(super) fn fill_box(image: &mut RgbImage, x: u32, y: u32, width: u32, height: u32, colour: Rgb<u8>) {
    for y in y..(y + height).min(image.height()) {
        for x in x..(x + width).min(image.width()) {
            image.put_pixel(x, y, colour);
        }
    }
}
