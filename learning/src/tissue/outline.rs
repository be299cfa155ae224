//! Mask to outlines: the cracks between tissue and glass, as closed simple rings.
//!
//! One polygon for each part of tissue (4-connected), with a hole for each part of glass inside it. Where two pixels of a
//! part meet only at a corner, the ring goes across that corner, so that no ring meets itself; rings of one polygon may
//! touch in single points, which is valid. Filling the outlines gives the mask back.

use image::GrayImage;
use serde::Serialize;

use super::components::Parts;

/// The outer ring first, then the holes; each closed, in corners of mask pixels.
pub(super) type Polygon = Vec<Vec<[u32; 2]>>;

/// The outlines of all parts, in reading order of their first pixel.
pub(super) fn outlines(mask: &GrayImage) -> Vec<Polygon> {
    let labels = Labels::of(mask);
    let mut traced = vec![false; labels.numbers.len()];
    let mut polygons: Vec<Polygon> = vec![Vec::new(); labels.parts];
    for y in 0..mask.height() {
        for x in 0..mask.width() {
            let label = labels.at(x.into(), y.into());
            let index = y as usize * mask.width() as usize + x as usize;
            if label != 0 && labels.at(x.into(), i64::from(y) - 1) != label && !traced[index] {
                // The first ring that is met of a part is its outer one: nothing of it lies above.
                polygons[label as usize - 1].push(labels.trace([x, y], label, &mut traced));
            }
        }
    }
    polygons
}

/// Which part each pixel belongs to, counted from 1; 0 is glass.
struct Labels {
    width: u32,
    height: u32,
    parts: usize,
    numbers: Vec<u32>,
}

impl Labels {
    fn of(mask: &GrayImage) -> Self {
        let (width, height) = mask.dimensions();
        let found = Parts::of(mask, 1, false);
        let mut numbers = vec![0; mask.as_raw().len()];
        for run in &found.runs {
            numbers[run.pixels(width as usize)].fill(run.part() as u32 + 1);
        }
        Self { width, height, parts: found.sizes.len(), numbers }
    }

    fn at(&self, x: i64, y: i64) -> u32 {
        let inside = x >= 0 && y >= 0 && x < i64::from(self.width) && y < i64::from(self.height);
        if inside { self.numbers[y as usize * self.width as usize + x as usize] } else { 0 }
    }

    /// The ring that runs along the top side of a pixel, with the part on the right hand (y points down).
    fn trace(&self, pixel: [u32; 2], label: u32, traced: &mut [bool]) -> Vec<[u32; 2]> {
        // Right, down, left, up.
        const STEPS: [[i64; 2]; 4] = [[1, 0], [0, 1], [-1, 0], [0, -1]];
        // The pixel ahead on the left hand, seen from a corner in each heading; on the right hand it is the next one's.
        const AHEAD_LEFT: [[i64; 2]; 4] = [[0, -1], [0, 0], [-1, 0], [-1, -1]];
        let start = pixel.map(i64::from);
        let (mut at, mut heading) = (start, 0);
        let mut ring = Vec::new();
        loop {
            if heading == 0 {
                traced[at[1] as usize * self.width as usize + at[0] as usize] = true;
            }
            at = [at[0] + STEPS[heading][0], at[1] + STEPS[heading][1]];
            let is_tissue = |offset: [i64; 2]| self.at(at[0] + offset[0], at[1] + offset[1]) == label;
            let turned = if is_tissue(AHEAD_LEFT[heading]) {
                (heading + 3) % 4
            } else if is_tissue(AHEAD_LEFT[(heading + 1) % 4]) {
                heading
            } else {
                (heading + 1) % 4
            };
            if turned != heading {
                ring.push(at.map(|v| v as u32));
            }
            heading = turned;
            if at == start && heading == 0 {
                break;
            }
        }
        ring.extend(ring.first().copied());
        ring
    }
}

/// The colour of tissue in QuPath: a green that no stain has.
const COLOUR: [u8; 3] = [60, 180, 75];

#[derive(Serialize)]
struct Collection {
    r#type: &'static str,
    features: Vec<Feature>,
}

#[derive(Serialize)]
struct Feature {
    r#type: &'static str,
    geometry: Geometry,
    properties: Properties,
}

#[derive(Serialize)]
struct Geometry {
    r#type: &'static str,
    coordinates: Vec<Vec<[f64; 2]>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    object_type: &'static str,
    classification: Class,
}

#[derive(Serialize)]
struct Class {
    name: &'static str,
    color: [u8; 3],
}

/// The mask of a slide of `slide` level-0 pixels as GeoJSON in those pixels, one Polygon for each part.
pub(super) fn to_geojson(mask: &GrayImage, slide: (u32, u32)) -> String {
    let scale =
        [f64::from(slide.0) / f64::from(mask.width().max(1)), f64::from(slide.1) / f64::from(mask.height().max(1))];
    // A thousandth of a level-0 pixel; a mask pixel is never that small.
    let placed = |value: u32, axis: usize| (f64::from(value) * scale[axis] * 1e3).round() / 1e3;
    let feature = |polygon: Polygon| Feature {
        r#type: "Feature",
        geometry: Geometry {
            r#type: "Polygon",
            coordinates: polygon
                .into_iter()
                .map(|ring| ring.into_iter().map(|[x, y]| [placed(x, 0), placed(y, 1)]).collect())
                .collect(),
        },
        properties: Properties { object_type: "annotation", classification: Class { name: "Tissue", color: COLOUR } },
    };
    let features = outlines(mask).into_iter().map(feature).collect();
    // Finite numbers and string keys only: there is nothing that could fail to be written.
    serde_json::to_string(&Collection { r#type: "FeatureCollection", features }).unwrap_or_default()
}
