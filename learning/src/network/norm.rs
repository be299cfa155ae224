//! Normalisation followed by LeakyReLU, forward and backward, in three modes: statistics of the batch, statistics of each
//! image, and frozen running statistics (fine-tuning; scale and shift still learn).
//!
//! A layer is `z = leaky(y * scale + shift)` with one scale and shift a plane. Sums run plane by plane in one fixed
//! order, in float64 across blocks, so the result does not depend on the number of threads.

use rayon::prelude::*;

use super::planes::{Planes, clear_columns};
use super::simd::{LANES, widest};

/// nnU-Net's and torch's epsilon.
pub(crate) const EPSILON: f64 = 1e-5;
/// Share of the batch in a new running statistic, as in torch.
pub(crate) const MOMENTUM: f64 = 0.1;
/// Numbers that are summed in float32 before float64 takes over.
const BLOCK: usize = 256;

/// Where the statistics come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All images of the batch together.
    Batch,
    /// Every image alone.
    Image,
    /// The running statistics, which stay as they are.
    Frozen,
}

/// The parameters of one layer. The convolution's bias is added here, not in the convolution: with statistics of the
/// batch it cancels out, with frozen ones it only moves the shift.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormParameters<'a> {
    pub(crate) gamma: &'a [f32],
    pub(crate) beta: &'a [f32],
    pub(crate) conv_bias: Option<&'a [f32]>,
    /// Running mean and variance, for batch normalisation.
    pub(crate) running: Option<(&'a [f32], &'a [f32])>,
}

/// Mean (of the convolution without bias) and 1 / standard deviation of every plane `[n, c]`.
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    mean: Vec<f64>,
    inverse: Vec<f64>,
    /// Variance of every plane, biased; the running one where frozen.
    variance: Vec<f64>,
    mode: Mode,
}

/// Gradients by the parameters of one layer.
#[derive(Clone, Debug)]
pub(crate) struct NormGradients {
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
    pub(crate) conv_bias: Vec<f32>,
}

/// Scale and shift with which running statistics are applied: what a convolution absorbs for inference.
pub(crate) fn frozen_affine(p: &NormParameters<'_>) -> Option<(Vec<f32>, Vec<f32>)> {
    let (mean, variance) = p.running?;
    let scale: Vec<f32> =
        p.gamma.iter().zip(variance).map(|(&g, &v)| (f64::from(g) / (f64::from(v) + EPSILON).sqrt()) as f32).collect();
    let bias = |c: usize| p.conv_bias.map_or(0.0, |b| b[c]);
    let shift = (0..scale.len()).map(|c| p.beta[c] + (bias(c) - mean[c]) * scale[c]).collect();
    Some((scale, shift))
}

/// Statistics of the convolution's output `y` (without bias).
pub(crate) fn statistics(y: &Planes, p: &NormParameters<'_>, mode: Mode) -> Statistics {
    let planes = y.samples * y.channels;
    let (mean, variance) = match (mode, p.running) {
        (Mode::Frozen, Some((mean, variance))) => {
            let bias = |c: usize| p.conv_bias.map_or(0.0, |b| f64::from(b[c]));
            let mean = |i: usize| f64::from(mean[i % y.channels]) - bias(i % y.channels);
            let variance = |i: usize| f64::from(variance[i % y.channels]);
            ((0..planes).map(mean).collect::<Vec<_>>(), (0..planes).map(variance).collect())
        }
        (Mode::Batch, _) => moments(y, y.samples),
        _ => moments(y, 1),
    };
    let inverse = variance.iter().map(|v| 1.0 / (v + EPSILON).sqrt()).collect();
    Statistics { mean, inverse, variance, mode }
}

/// Mean and biased variance of every plane, pooled over groups of samples that share a channel.
fn moments(y: &Planes, pooled: usize) -> (Vec<f64>, Vec<f64>) {
    let (grid, channels) = (y.grid, y.channels);
    let count = (pooled * grid.pixels()) as f64;
    let pool = |per_plane: Vec<f64>| -> Vec<f64> {
        if pooled == 1 {
            return per_plane;
        }
        let mut sums = vec![0.0; channels];
        per_plane.iter().enumerate().for_each(|(i, v)| sums[i % channels] += v);
        (0..per_plane.len()).map(|i| sums[i % channels]).collect()
    };
    let planes = || y.data[..y.len()].par_chunks_exact(grid.plane());
    let sums = pool(planes().map(sum).collect());
    let mean: Vec<f64> = sums.iter().map(|s| s / count).collect();
    // The border is zero and adds mean^2 for each of its numbers, which is taken off again.
    let border = (grid.plane() - grid.pixels()) as f64;
    let squares = planes().zip(&mean).map(|(plane, &m)| {
        let m32 = m as f32;
        squares_about(plane, m32) - border * f64::from(m32) * f64::from(m32)
    });
    let variance = pool(squares.collect()).iter().map(|s| (s / count).max(0.0)).collect();
    (mean, variance)
}

/// `leaky((y - mean) * inverse * gamma + beta)`, with a slope for negative results (1 for none).
pub(crate) fn normalise(y: &Planes, p: &NormParameters<'_>, s: &Statistics, slope: f32) -> Planes {
    let mut z = Planes::blank(y.samples, y.channels, y.grid);
    let (grid, channels) = (y.grid, y.channels);
    let (first, run) = (grid.inner(), grid.run());
    let out = z.samples_mut().par_chunks_exact_mut(grid.plane());
    out.zip(y.data.par_chunks_exact(grid.plane())).enumerate().for_each(|(i, (z, y))| {
        let c = i % channels;
        let scale = f64::from(p.gamma[c]) * s.inverse[i];
        let shift = f64::from(p.beta[c]) - s.mean[i] * scale;
        affine_leaky(&mut z[first..first + run], &y[first..first + run], scale as f32, shift as f32, slope);
        clear_columns(z, grid);
    });
    z
}

/// Turns the gradient by `z` into the gradient by `y`, in place, and returns the gradients by the parameters.
pub(crate) fn normalise_backward(
    dz: &mut Planes,
    y: &Planes,
    z: &Planes,
    p: &NormParameters<'_>,
    s: &Statistics,
    slope: f32,
) -> NormGradients {
    let (grid, channels, samples) = (y.grid, y.channels, y.samples);
    // Per plane: the sum of the gradient behind LeakyReLU, and the sum of it times the normalised value.
    let sums: Vec<(f64, f64)> = dz
        .samples_mut()
        .par_chunks_exact_mut(grid.plane())
        .zip(y.data.par_chunks_exact(grid.plane()))
        .zip(z.data.par_chunks_exact(grid.plane()))
        .enumerate()
        .map(|(i, ((dz, y), z))| {
            let (total, with_y) = leaky_backward(dz, y, z, s.mean[i] as f32, slope);
            (total, with_y * s.inverse[i])
        })
        .collect();
    let mut per_channel = vec![(0.0f64, 0.0f64); channels];
    for (i, (total, with_x)) in sums.iter().enumerate() {
        per_channel[i % channels].0 += total;
        per_channel[i % channels].1 += with_x;
    }
    let (first, run) = (grid.inner(), grid.run());
    dz.samples_mut()
        .par_chunks_exact_mut(grid.plane())
        .zip(y.data.par_chunks_exact(grid.plane()))
        .enumerate()
        .for_each(|(i, (d, y))| {
            let c = i % channels;
            let scale = f64::from(p.gamma[c]) * s.inverse[i];
            let (total, with_x, count) = match s.mode {
                Mode::Frozen => (0.0, 0.0, 1.0),
                Mode::Image => (sums[i].0, sums[i].1, grid.pixels() as f64),
                Mode::Batch => (per_channel[c].0, per_channel[c].1, (samples * grid.pixels()) as f64),
            };
            // dy = scale (d - mean(d) - x mean(d x)), x = (y - mean) inverse the normalised value.
            let by_y = -scale * with_x / count * s.inverse[i];
            let shift = -scale * total / count - by_y * s.mean[i];
            combine(&mut d[first..first + run], &y[first..first + run], scale as f32, by_y as f32, shift as f32);
            clear_columns(d, grid);
        });
    let bias = |c: usize| match s.mode {
        Mode::Frozen => (per_channel[c].0 * f64::from(p.gamma[c]) * s.inverse[c]) as f32,
        _ => 0.0,
    };
    NormGradients {
        gamma: per_channel.iter().map(|s| s.1 as f32).collect(),
        beta: per_channel.iter().map(|s| s.0 as f32).collect(),
        conv_bias: (0..channels).map(bias).collect(),
    }
}

/// Moves the running statistics towards those of the batch, by the share `momentum`, as torch: unbiased variance.
pub(crate) fn update_running(
    s: &Statistics,
    y: &Planes,
    conv_bias: Option<&[f32]>,
    momentum: f64,
    mean: &mut [f32],
    variance: &mut [f32],
) {
    if s.mode != Mode::Batch {
        return;
    }
    let count = (y.samples * y.grid.pixels()) as f64;
    let unbias = count / (count - 1.0).max(1.0);
    for c in 0..y.channels {
        let bias = conv_bias.map_or(0.0, |b| f64::from(b[c]));
        let mix = |old: f32, new: f64| (f64::from(old) * (1.0 - momentum) + new * momentum) as f32;
        mean[c] = mix(mean[c], s.mean[c] + bias);
        variance[c] = mix(variance[c], s.variance[c] * unbias);
    }
}

/// Sum of `f` over the values: lanes in float32 within a block, float64 across blocks.
#[inline(always)]
fn total(plane: &[f32], f: impl Fn(f32) -> f32 + Copy) -> f64 {
    let mut total = 0.0f64;
    for block in plane.chunks(BLOCK) {
        let (chunks, rest) = block.as_chunks::<LANES>();
        let mut sums = [0.0f32; LANES];
        for chunk in chunks {
            for l in 0..LANES {
                sums[l] += f(chunk[l]);
            }
        }
        for (l, &v) in rest.iter().enumerate() {
            sums[l] += f(v);
        }
        total += f64::from(sums.iter().sum::<f32>());
    }
    total
}

fn sum(plane: &[f32]) -> f64 {
    widest(
        #[inline(always)]
        || {
            total(
                plane,
                #[inline(always)]
                |v| v,
            )
        },
    )
}

fn squares_about(plane: &[f32], mean: f32) -> f64 {
    widest(
        #[inline(always)]
        || {
            total(
                plane,
                #[inline(always)]
                |v| (v - mean) * (v - mean),
            )
        },
    )
}

fn affine_leaky(z: &mut [f32], y: &[f32], scale: f32, shift: f32, slope: f32) {
    widest(
        #[inline(always)]
        move || {
            // Copies: what is read through the closure might be what is written, and no loop would become vectors.
            let (scale, shift, slope) = (scale, shift, slope);
            for (z, &y) in z.iter_mut().zip(y) {
                let v = y.mul_add(scale, shift);
                *z = if v >= 0.0 { v } else { v * slope };
            }
        },
    );
}

/// Multiplies the gradient by LeakyReLU's slope in place; returns its sum and its sum times (y - mean).
fn leaky_backward(dz: &mut [f32], y: &[f32], z: &[f32], mean: f32, slope: f32) -> (f64, f64) {
    widest(
        #[inline(always)]
        move || {
            let (mean, slope) = (mean, slope);
            let (mut total, mut with_y) = (0.0f64, 0.0f64);
            for ((dz, y), z) in dz.chunks_mut(BLOCK).zip(y.chunks(BLOCK)).zip(z.chunks(BLOCK)) {
                for (d, &z) in dz.iter_mut().zip(z) {
                    *d = if z >= 0.0 { *d } else { *d * slope };
                }
                let (mut sums, mut products) = ([0.0f32; LANES], [0.0f32; LANES]);
                let (d8, d1) = dz.as_chunks::<LANES>();
                let (y8, y1) = y.as_chunks::<LANES>();
                for (d, y) in d8.iter().zip(y8) {
                    for l in 0..LANES {
                        sums[l] += d[l];
                        products[l] = (y[l] - mean).mul_add(d[l], products[l]);
                    }
                }
                for (l, (&d, &y)) in d1.iter().zip(y1).enumerate() {
                    sums[l] += d;
                    products[l] = (y - mean).mul_add(d, products[l]);
                }
                total += f64::from(sums.iter().sum::<f32>());
                with_y += f64::from(products.iter().sum::<f32>());
            }
            (total, with_y)
        },
    )
}

fn combine(d: &mut [f32], y: &[f32], by_d: f32, by_y: f32, shift: f32) {
    widest(
        #[inline(always)]
        move || {
            let (by_d, by_y, shift) = (by_d, by_y, shift);
            for (d, &y) in d.iter_mut().zip(y) {
                *d = d.mul_add(by_d, y.mul_add(by_y, shift));
            }
        },
    );
}
