//! Draws training patches: which image, where, and through which rotation and scale. A patch is a pure function of the
//! seed, the step and its place in the batch.
//!
//! What lies outside an image is white and unlabelled: white is what a slide shows where there is no tissue, and nothing
//! is learned from pixels that were made up.

use consilium_common::plan::{Training, UNLABELLED};
use rand_chacha::ChaCha8Rng;

use super::TrainingImage;
use super::augment;
use crate::network::{InputScale, random};

/// Most positions kept for one class of one image; nnU-Net keeps 10,000.
const MAX_POSITIONS: usize = 10_000;
/// Probability of a free rotation, and of a scaling.
const SPATIAL_CHANCE: f32 = 0.2;
/// Range of the scaling; above 1 the patch shows more of the image.
const SCALE: (f32, f32) = (0.7, 1.4);

/// One square patch: planar RGB in [0, 1] and its labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Patch {
    /// `[3, side, side]`.
    pub(crate) pixels: Vec<f32>,
    /// `[side, side]`.
    pub(crate) labels: Vec<u8>,
}

/// A batch, ready for the network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Batch {
    /// `[n, 3, side, side]`.
    pub(crate) pixels: Vec<f32>,
    /// `[n, side, side]`.
    pub(crate) labels: Vec<u8>,
}

/// Some of a batch, which are computed together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    /// `[n, 3, side, side]`.
    pub(crate) pixels: &'a [f32],
    /// `[n, side, side]`.
    pub(crate) labels: &'a [u8],
}

impl Batch {
    /// So many parts of one size; the number of patches must be a multiple.
    pub(crate) fn parts(&self, parts: u32) -> impl Iterator<Item = Part<'_>> {
        let each = |length: usize| (length / parts.max(1) as usize).max(1);
        let labels = self.labels.chunks_exact(each(self.labels.len()));
        let pixels = self.pixels.chunks_exact(each(self.pixels.len()));
        pixels.zip(labels).map(|(pixels, labels)| Part { pixels, labels })
    }
}

/// The images and where their foreground is.
#[derive(Debug)]
pub(crate) struct Sampler<'a> {
    images: &'a [TrainingImage],
    /// For each image the positions (y * width + x) of each foreground class that it has.
    foreground: Vec<Vec<Vec<u32>>>,
}

impl<'a> Sampler<'a> {
    pub(crate) fn new(images: &'a [TrainingImage], classes: usize) -> Self {
        Self { images, foreground: images.iter().map(|image| positions(image, classes)).collect() }
    }

    /// The batch of a step. Its last `round(n * foreground_share)` patches are centred on foreground.
    pub(crate) fn batch(&self, settings: &Training, seed: u64, step: u32) -> Batch {
        let n = settings.batch_size as usize;
        let forced = (n as f64 * settings.foreground_share).round() as usize;
        let mut batch = Batch { pixels: Vec::new(), labels: Vec::new() };
        for index in 0..n {
            let mut rng = random::rng(&format!("{seed}/step-{step}/sample-{index}"));
            let patch = self.draw(settings, index + forced >= n, &mut rng);
            batch.pixels.extend_from_slice(&patch.pixels);
            batch.labels.extend_from_slice(&patch.labels);
        }
        batch
    }

    fn draw(&self, settings: &Training, on_foreground: bool, rng: &mut ChaCha8Rng) -> Patch {
        let side = settings.patch_px as usize;
        let index = random::below(rng, self.images.len());
        let image = &self.images[index];
        let (x, y) = self.corner(index, side, on_foreground, rng);
        let augmentation = &settings.augmentation;
        let spatial = augmentation.rotate_scale;
        let turned = spatial && random::chance(rng, SPATIAL_CHANCE);
        let angle = if turned { random::between(rng, -std::f32::consts::PI, std::f32::consts::PI) } else { 0.0 };
        let scaled = spatial && random::chance(rng, SPATIAL_CHANCE);
        let scale = if scaled { random::between(rng, SCALE.0, SCALE.1) } else { 1.0 };
        let mut patch = if turned || scaled { warp(image, x, y, side, angle, scale) } else { crop(image, x, y, side) };
        augment::colour(&mut patch.pixels, augmentation, rng);
        as_input(&mut patch.pixels, &image.input);
        if augmentation.flips {
            augment::flip(&mut patch, side, random::below(rng, 8));
        }
        patch
    }

    /// Top-left corner of a patch: inside the image where the image is large enough, else around it.
    fn corner(&self, index: usize, side: usize, on_foreground: bool, rng: &mut ChaCha8Rng) -> (i64, i64) {
        let (width, height) = self.images[index].image.dimensions();
        let (free_x, free_y) = (i64::from(width) - side as i64, i64::from(height) - side as i64);
        let classes: Vec<&Vec<u32>> = self.foreground[index].iter().filter(|p| !p.is_empty()).collect();
        if on_foreground && !classes.is_empty() {
            let class = classes[random::below(rng, classes.len())];
            let at = class[random::below(rng, class.len())];
            let half = side as i64 / 2;
            let place = |centre: u32, free: i64| (i64::from(centre) - half).clamp(free.min(0), free.max(0));
            return (place(at % width, free_x), place(at / width, free_y));
        }
        let place = |free: i64, rng: &mut ChaCha8Rng| match usize::try_from(free) {
            Ok(free) => random::below(rng, free + 1) as i64,
            Err(_) => free / 2,
        };
        (place(free_x, rng), place(free_y, rng))
    }
}

/// Positions of every foreground class, thinned evenly where there are more than are kept.
fn positions(image: &TrainingImage, classes: usize) -> Vec<Vec<u32>> {
    let labels = image.labels.as_raw();
    let mut counts = [0usize; 256];
    labels.iter().for_each(|&l| counts[usize::from(l)] += 1);
    let mut found: Vec<Vec<u32>> = vec![Vec::new(); classes.saturating_sub(1)];
    let mut seen = [0usize; 256];
    for (at, &label) in (0u32..).zip(labels) {
        let class = usize::from(label);
        if class == 0 || class >= classes {
            continue;
        }
        if seen[class].is_multiple_of(counts[class].div_ceil(MAX_POSITIONS)) {
            found[class - 1].push(at);
        }
        seen[class] += 1;
    }
    found
}

/// From colours in [0, 1], which augmentation works on, to what the network takes.
fn as_input(pixels: &mut [f32], input: &InputScale) {
    if input.mean == InputScale::RGB_TO_01.mean && input.deviation == InputScale::RGB_TO_01.deviation {
        return;
    }
    let area = (pixels.len() / 3).max(1);
    for (c, plane) in pixels.chunks_exact_mut(area).enumerate().take(3) {
        plane.iter_mut().for_each(|value| *value = (*value * 255.0 - input.mean[c]) / input.deviation[c]);
    }
}

/// Copies a box; what lies outside is white and unlabelled.
fn crop(image: &TrainingImage, x: i64, y: i64, side: usize) -> Patch {
    let (width, height) = image.image.dimensions();
    let (width, height) = (i64::from(width), i64::from(height));
    let (rgb, labels) = (image.image.as_raw(), image.labels.as_raw());
    let area = side * side;
    let mut patch = Patch { pixels: vec![1.0; 3 * area], labels: vec![UNLABELLED; area] };
    let first = (-x).clamp(0, side as i64);
    let last = (width - x).clamp(first, side as i64);
    for row in 0..side as i64 {
        let from_y = y + row;
        if !(0..height).contains(&from_y) {
            continue;
        }
        for column in first..last {
            let from = (from_y * width + x + column) as usize;
            let to = (row as usize) * side + column as usize;
            patch.labels[to] = labels[from];
            for channel in 0..3 {
                patch.pixels[channel * area + to] = f32::from(rgb[3 * from + channel]) / 255.0;
            }
        }
    }
    patch
}

/// Reads a box through a rotation and scaling about its centre: image bilinear, labels nearest.
fn warp(image: &TrainingImage, x: i64, y: i64, side: usize, angle: f32, scale: f32) -> Patch {
    let area = side * side;
    let mut patch = Patch { pixels: vec![1.0; 3 * area], labels: vec![UNLABELLED; area] };
    let middle = (side as f32 - 1.0) / 2.0;
    let (sin, cos) = (scale * angle.sin(), scale * angle.cos());
    for row in 0..side {
        for column in 0..side {
            let (dx, dy) = (column as f32 - middle, row as f32 - middle);
            let from_x = x as f32 + middle + cos * dx - sin * dy;
            let from_y = y as f32 + middle + sin * dx + cos * dy;
            let to = row * side + column;
            patch.labels[to] = label_at(image, from_x, from_y);
            let colour = colour_at(image, from_x, from_y);
            (0..3).for_each(|channel| patch.pixels[channel * area + to] = (colour[channel] / 255.0).min(1.0));
        }
    }
    patch
}

fn label_at(image: &TrainingImage, x: f32, y: f32) -> u8 {
    let (x, y) = (x.round(), y.round());
    let inside = x >= 0.0 && y >= 0.0 && x < image.labels.width() as f32 && y < image.labels.height() as f32;
    if inside { image.labels.get_pixel(x as u32, y as u32).0[0] } else { UNLABELLED }
}

fn colour_at(image: &TrainingImage, x: f32, y: f32) -> [f32; 3] {
    let (width, height) = (i64::from(image.image.width()), i64::from(image.image.height()));
    let rgb = image.image.as_raw();
    let (left, top) = (x.floor(), y.floor());
    let (right_share, low_share) = (x - left, y - top);
    let mut sum = [0.0f32; 3];
    for (dy, share_y) in [(0, 1.0 - low_share), (1, low_share)] {
        for (dx, share_x) in [(0, 1.0 - right_share), (1, right_share)] {
            let (px, py) = (left as i64 + dx, top as i64 + dy);
            let weight = share_x * share_y;
            let inside = px >= 0 && py >= 0 && px < width && py < height;
            let at = if inside { 3 * (py * width + px) as usize } else { 0 };
            for channel in 0..3 {
                sum[channel] += weight * if inside { f32::from(rgb[at + channel]) } else { 255.0 };
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests;
