//! Connected parts of a small binary mask: drop the small ones, fill the small holes.

use image::{GrayImage, Luma};

/// Sets parts of tissue (8-connected) with fewer than `least` pixels to glass.
pub(super) fn remove_specks(mask: &mut GrayImage, least: usize) {
    for part in parts(mask, 1, true) {
        if part.pixels.len() < least {
            paint(mask, &part.pixels, 0);
        }
    }
}

/// Sets parts of glass (4-connected) with fewer than `least` pixels to tissue, unless they touch the edge.
pub(super) fn fill_holes(mask: &mut GrayImage, least: usize) {
    for part in parts(mask, 0, false) {
        if part.pixels.len() < least && !part.touches_edge {
            paint(mask, &part.pixels, 1);
        }
    }
}

struct Part {
    pixels: Vec<(u32, u32)>,
    touches_edge: bool,
}

fn paint(mask: &mut GrayImage, pixels: &[(u32, u32)], value: u8) {
    for &(x, y) in pixels {
        mask.put_pixel(x, y, Luma([value]));
    }
}

/// All connected parts of one value, in reading order of their first pixel.
fn parts(mask: &GrayImage, value: u8, diagonal: bool) -> Vec<Part> {
    let (width, height) = mask.dimensions();
    let mut seen = vec![false; width as usize * height as usize];
    let mut found = Vec::new();
    for start in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let index = |(x, y): (u32, u32)| y as usize * width as usize + x as usize;
        if seen[index(start)] || mask.get_pixel(start.0, start.1).0[0] != value {
            continue;
        }
        seen[index(start)] = true;
        let mut part = Part { pixels: vec![start], touches_edge: false };
        let mut next = 0;
        while let Some(&(x, y)) = part.pixels.get(next) {
            next += 1;
            part.touches_edge |= x == 0 || y == 0 || x + 1 == width || y + 1 == height;
            for ny in y.saturating_sub(1)..=(y + 1).min(height - 1) {
                for nx in x.saturating_sub(1)..=(x + 1).min(width - 1) {
                    let straight = nx == x || ny == y;
                    if (diagonal || straight) && !seen[index((nx, ny))] && mask.get_pixel(nx, ny).0[0] == value {
                        seen[index((nx, ny))] = true;
                        part.pixels.push((nx, ny));
                    }
                }
            }
        }
        found.push(part);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specks_go_and_holes_close() {
        let picture = ["#....", ".###.", ".#.#.", ".###.", "....."];
        let mut mask =
            GrayImage::from_fn(5, 5, |x, y| Luma([u8::from(picture[y as usize].as_bytes()[x as usize] == b'#')]));
        fill_holes(&mut mask, 2);
        assert_eq!(mask.get_pixel(2, 2).0[0], 1, "a hole of one pixel");
        assert_eq!(mask.get_pixel(4, 0).0[0], 0, "the outside is no hole");
        remove_specks(&mut mask, 11);
        assert_eq!(mask.pixels().map(|p| u32::from(p.0[0])).sum::<u32>(), 0, "ten pixels, the corner one connected");
    }
}
