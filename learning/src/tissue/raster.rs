//! Outlines to mask pixels: a pixel belongs to a polygon when its centre does, by the even-odd rule.
//!
//! Every crossing of a ring with a row of pixel centres flips all pixels to its right. So rings may be open, touch or
//! cross each other, and lie partly outside. Polygons that share a side share no pixel and leave none out.

use std::ops::Range;

use consilium_common::limits;
use image::GrayImage;

use super::error::GeoJsonError;
use super::geojson::Polygons;

/// The mask of a slide of `slide` level-0 pixels: all that adds, less all that takes away.
pub(super) fn fill(polygons: &Polygons, slide: (u32, u32), size: (u32, u32)) -> Result<GrayImage, GeoJsonError> {
    let mut mask = GrayImage::new(size.0, size.1);
    let scale = [f64::from(size.0) / f64::from(slide.0.max(1)), f64::from(size.1) / f64::from(slide.1.max(1))];
    let mut work = limits::MAX_OUTLINE_WORK;
    let mut flips = Vec::new();
    for subtracting in [false, true] {
        for rings in polygons.regions(subtracting) {
            let edges: Vec<Edge> = rings.flat_map(|ring| edges(ring, scale)).collect();
            let Some(bounds) = Bounds::of(&edges, size) else { continue };
            let crossings: u64 = edges.iter().map(|edge| edge.rows(size.1).len() as u64).sum();
            let cost = crossings + bounds.columns.len() as u64 * bounds.rows.len() as u64;
            work = work.checked_sub(cost).ok_or(GeoJsonError::TooIntricate)?;
            fill_region(&edges, &bounds, u8::from(!subtracting), &mut mask, &mut flips);
        }
    }
    Ok(mask)
}

fn fill_region(edges: &[Edge], bounds: &Bounds, value: u8, mask: &mut GrayImage, flips: &mut Vec<u8>) {
    let (width, height) = (bounds.columns.len(), mask.height());
    flips.clear();
    flips.resize(width * bounds.rows.len(), 0);
    for edge in edges {
        for row in edge.rows(height) {
            let column = edge.first_right_of(row).clamp(bounds.columns.start as f64, bounds.columns.end as f64);
            let column = column as usize - bounds.columns.start;
            if column < width {
                flips[(row as usize - bounds.rows.start) * width + column] ^= 1;
            }
        }
    }
    let stride = mask.width() as usize;
    for (row, flips) in bounds.rows.clone().zip(flips.chunks_exact(width)) {
        let mut inside = 0;
        for (pixel, flip) in mask.as_mut()[row * stride..][bounds.columns.clone()].iter_mut().zip(flips) {
            inside ^= flip;
            if inside != 0 {
                *pixel = value;
            }
        }
    }
}

/// A side of a ring in mask pixels, from its upper to its lower end: both directions give the same crossings.
struct Edge {
    upper: [f64; 2],
    lower: [f64; 2],
}

fn edges(ring: &[[f64; 2]], scale: [f64; 2]) -> impl Iterator<Item = Edge> {
    let scaled = move |point: [f64; 2]| [point[0] * scale[0], point[1] * scale[1]];
    let ends = ring.iter().zip(ring.iter().skip(1).chain(ring.first()));
    ends.map(move |(&a, &b)| {
        let (a, b) = (scaled(a), scaled(b));
        if a[1] <= b[1] { Edge { upper: a, lower: b } } else { Edge { upper: b, lower: a } }
    })
}

impl Edge {
    /// The rows whose pixel centres it crosses.
    fn rows(&self, height: u32) -> Range<u32> {
        let row = |y: f64| (y - 0.5).ceil().clamp(0.0, f64::from(height)) as u32;
        row(self.upper[1])..row(self.lower[1])
    }

    /// The first column whose pixel centre lies at or right of the crossing.
    fn first_right_of(&self, row: u32) -> f64 {
        let down = (f64::from(row) + 0.5 - self.upper[1]) / (self.lower[1] - self.upper[1]);
        (self.upper[0] + down * (self.lower[0] - self.upper[0]) - 0.5).ceil()
    }
}

/// The mask pixels that a polygon can reach.
struct Bounds {
    columns: Range<usize>,
    rows: Range<usize>,
}

impl Bounds {
    fn of(edges: &[Edge], size: (u32, u32)) -> Option<Self> {
        let mut low = [f64::INFINITY; 2];
        let mut high = [f64::NEG_INFINITY; 2];
        for point in edges.iter().flat_map(|edge| [edge.upper, edge.lower]) {
            for axis in 0..2 {
                low[axis] = low[axis].min(point[axis]);
                high[axis] = high[axis].max(point[axis]);
            }
        }
        let range = |axis: usize, side: u32| {
            let at = |value: f64| value.clamp(0.0, f64::from(side)) as usize;
            at(low[axis].floor())..at(high[axis].ceil())
        };
        let found = Self { columns: range(0, size.0), rows: range(1, size.1) };
        (!found.columns.is_empty() && !found.rows.is_empty()).then_some(found)
    }
}
