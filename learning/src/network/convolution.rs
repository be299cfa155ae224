//! The three layers that multiply, forward and backward, brought to the two kernels: 3x3 convolution with any stride,
//! transposed convolution whose kernel is its stride, and 1x1 convolution.
//!
//! Samples are computed in parallel and their weight gradients summed in order, so the result does not depend on the
//! number of threads.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::kernels::{Correlation, Packed, WeightGradient};
use super::planes::{Grid, Planes, SLACK, clear_columns, merge_phases, split_phases};

/// Side of the kernels of [`conv`].
const KERNEL: usize = 3;
/// Number of their taps.
const TAPS: usize = KERNEL * KERNEL;

/// What comes after the multiplication, in the same pass: a bias and a slope for negative results (1 for none).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epilogue<'a> {
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) slope: f32,
}

impl Epilogue<'_> {
    pub(crate) const NONE: Self = Self { bias: None, slope: 1.0 };
}

/// Packs `[outputs, inputs, 3, 3]`.
pub(crate) fn pack_conv(weight: &[f32], outputs: usize, inputs: usize) -> Packed {
    Packed::new(outputs, inputs, TAPS, |o, i, t| weight[(o * inputs + i) * TAPS + t])
}

/// Packs `[inputs, outputs, s, s]` of a transposed convolution: an output channel a phase.
pub(crate) fn pack_transposed(weight: &[f32], inputs: usize, outputs: usize, s: usize) -> Packed {
    Packed::new(outputs * s * s, inputs, 1, |o, i, _| weight[i * outputs * s * s + o])
}

/// Packs `[outputs, inputs, 1, 1]`.
pub(crate) fn pack_pointwise(weight: &[f32], outputs: usize, inputs: usize) -> Packed {
    Packed::new(outputs, inputs, 1, |o, i, _| weight[o * inputs + i])
}

/// Distance of each tap of a 3x3 kernel from the output pixel, in planes split into phases.
fn conv_taps(coarse: Grid, s: usize) -> [usize; TAPS] {
    std::array::from_fn(|t| {
        let (y, x) = (t / KERNEL, t % KERNEL);
        let phase = (y % s) * s + x % s;
        phase * coarse.plane() + (y / s) * coarse.stride() + x / s
    })
}

/// The planes of a sample as a convolution with this stride reads them.
fn phases_of(x: &Planes, sample: usize, s: usize, coarse: Grid) -> Buffer {
    let mut phases = Buffer::zeros(x.channels * s * s * coarse.plane() + SLACK);
    let planes = x.starting_at(sample).chunks_exact(x.grid.plane()).take(x.channels);
    for (plane, out) in planes.zip(phases.chunks_exact_mut(s * s * coarse.plane())) {
        split_phases(plane, x.grid, s, coarse, out);
    }
    phases
}

/// 3x3 convolution, padding 1.
pub(crate) fn conv(x: &Planes, packed: &Packed, outputs: usize, s: usize, then: Epilogue<'_>) -> Planes {
    let grid = x.grid.divided(s);
    let mut y = Planes::blank(x.samples, outputs, grid);
    let taps = conv_taps(grid, s);
    let one = |(sample, out): (usize, &mut [f32])| {
        let split = (s > 1).then(|| phases_of(x, sample, s, grid));
        Correlation {
            input: split.as_deref().unwrap_or_else(|| x.starting_at(sample)),
            input_stride: s * s * grid.plane(),
            taps: &taps,
            packed,
            bias: then.bias,
            slope: then.slope,
            len: grid.run(),
            output_stride: grid.plane(),
            output_offset: grid.inner(),
        }
        .run(out);
        out.chunks_exact_mut(grid.plane()).for_each(|plane| clear_columns(plane, grid));
    };
    each_sample(&mut y, one);
    y
}

/// Gradient of [`conv`] by its input. `weight` is `[outputs, inputs, 3, 3]`.
pub(crate) fn conv_input_gradient(dy: &Planes, weight: &[f32], inputs: usize, s: usize, fine: Grid) -> Planes {
    let (outputs, coarse) = (dy.channels, dy.grid);
    let mut dx = Planes::blank(dy.samples, inputs, fine);
    let phases: Vec<(Vec<usize>, Packed)> = (0..s * s)
        .map(|phase| {
            // Backwards, so that the distances rise.
            let own: Vec<usize> = (0..TAPS).rev().filter(|t| (t / KERNEL % s) * s + t % KERNEL % s == phase).collect();
            let back = |t: &usize| (t / KERNEL / s) * coarse.stride() + t % KERNEL / s;
            // In the flat plane the gradient of a pixel comes from `back` before it; the padding moves it one row and
            // column on, and with stride 1 the run begins at the first inner pixel.
            let base = if s == 1 { 2 * coarse.inner() } else { coarse.inner() };
            let packed = Packed::new(inputs, outputs, own.len(), |i, o, t| weight[(o * inputs + i) * TAPS + own[t]]);
            (own.iter().map(|t| base - back(t)).collect(), packed)
        })
        .collect();
    let one = |(sample, out): (usize, &mut [f32])| {
        let mut split = Buffer::zeros(if s > 1 { inputs * s * s * coarse.plane() } else { 0 });
        for (phase, (taps, packed)) in phases.iter().enumerate() {
            if taps.is_empty() {
                continue;
            }
            let job = Correlation {
                input: dy.starting_at(sample),
                input_stride: coarse.plane(),
                taps,
                packed,
                bias: None,
                slope: 1.0,
                len: if s == 1 { fine.run() } else { (coarse.height + 1) * coarse.stride() },
                output_stride: s * s * coarse.plane(),
                output_offset: if s == 1 { fine.inner() } else { phase * coarse.plane() },
            };
            job.run(if s == 1 { &mut *out } else { &mut split });
        }
        for (plane, split) in out.chunks_exact_mut(fine.plane()).zip(split.chunks_exact(s * s * coarse.plane())) {
            if s > 1 {
                merge_phases(split, coarse, s, plane, fine);
            }
        }
        out.chunks_exact_mut(fine.plane()).for_each(|plane| clear_columns(plane, fine));
    };
    each_sample(&mut dx, one);
    dx
}

/// Gradient of [`conv`] by its weights, `[outputs, inputs, 3, 3]`.
pub(crate) fn conv_weight_gradient(x: &Planes, dy: &Planes, s: usize) -> Vec<f32> {
    let grid = dy.grid;
    let taps = conv_taps(grid, s);
    sum_over_samples(x.samples, dy.channels * x.channels * TAPS, |sample, sums| {
        let split = (s > 1).then(|| phases_of(x, sample, s, grid));
        WeightGradient {
            input: split.as_deref().unwrap_or_else(|| x.starting_at(sample)),
            input_stride: s * s * grid.plane(),
            inputs: x.channels,
            taps: &taps,
            gradient: &dy.starting_at(sample)[grid.inner()..],
            gradient_stride: grid.plane(),
            outputs: dy.channels,
            len: grid.run(),
        }
        .add_to(sums);
    })
}

/// Transposed convolution whose kernel is its stride; `packed` of [`pack_transposed`], one bias an output channel.
pub(crate) fn transposed(x: &Planes, packed: &Packed, outputs: usize, s: usize, bias: Option<&[f32]>) -> Planes {
    let (coarse, fine) = (x.grid, x.grid.multiplied(s));
    let mut y = Planes::blank(x.samples, outputs, fine);
    let spread: Option<Vec<f32>> = bias.map(|b| b.iter().flat_map(|&b| std::iter::repeat_n(b, s * s)).collect());
    let one = |(sample, out): (usize, &mut [f32])| {
        let mut split = Buffer::new(outputs * s * s * coarse.plane());
        Correlation {
            input: x.starting_at(sample),
            input_stride: coarse.plane(),
            taps: &[coarse.inner()],
            packed,
            bias: spread.as_deref(),
            slope: 1.0,
            len: coarse.run(),
            output_stride: coarse.plane(),
            output_offset: coarse.inner(),
        }
        .run(&mut split);
        for (plane, split) in out.chunks_exact_mut(fine.plane()).zip(split.chunks_exact(s * s * coarse.plane())) {
            interleave(split, coarse, s, plane, fine);
            clear_columns(plane, fine);
        }
    };
    each_sample(&mut y, one);
    y
}

/// Pixel (s i + p, s j + q) of the fine plane is pixel (i, j) of phase (p, q), borders apart.
fn interleave(phases: &[f32], coarse: Grid, s: usize, plane: &mut [f32], fine: Grid) {
    for y in 0..fine.height {
        let row = &mut plane[(y + 1) * fine.stride() + 1..][..fine.width];
        for q in 0..s {
            let phase = &phases[((y % s) * s + q) * coarse.plane()..];
            let from = &phase[(y / s + 1) * coarse.stride() + 1..][..coarse.width];
            row[q..].iter_mut().step_by(s).zip(from).for_each(|(to, from)| *to = *from);
        }
    }
}

/// The inverse of [`interleave`] for all channels of a sample.
fn deinterleave(dy: &Planes, sample: usize, s: usize, coarse: Grid) -> Buffer {
    let fine = dy.grid;
    let mut split = Buffer::zeros(dy.channels * s * s * coarse.plane() + SLACK);
    let planes = dy.starting_at(sample).chunks_exact(fine.plane()).take(dy.channels);
    for (plane, split) in planes.zip(split.chunks_exact_mut(s * s * coarse.plane())) {
        for y in 0..fine.height {
            let row = &plane[(y + 1) * fine.stride() + 1..][..fine.width];
            for q in 0..s {
                let phase = &mut split[((y % s) * s + q) * coarse.plane()..];
                let to = &mut phase[(y / s + 1) * coarse.stride() + 1..][..coarse.width];
                to.iter_mut().zip(row[q..].iter().step_by(s)).for_each(|(to, from)| *to = *from);
            }
        }
    }
    split
}

/// Gradients of [`transposed`] by its input and its weights `[inputs, outputs, s, s]`.
pub(crate) fn transposed_gradients(x: &Planes, dy: &Planes, weight: &[f32], s: usize) -> (Planes, Vec<f32>) {
    let (coarse, parts) = (x.grid, dy.channels * s * s);
    let split: Vec<Buffer> = (0..x.samples).into_par_iter().map(|sample| deinterleave(dy, sample, s, coarse)).collect();
    let packed = Packed::new(x.channels, parts, 1, |i, p, _| weight[i * parts + p]);
    let mut dx = Planes::blank(x.samples, x.channels, coarse);
    each_sample(&mut dx, |(sample, out)| pointwise_one(&split[sample], &packed, coarse, Epilogue::NONE, out));
    let gradient = sum_over_samples(x.samples, x.channels * parts, |sample, sums| {
        WeightGradient {
            input: &split[sample],
            input_stride: coarse.plane(),
            inputs: parts,
            taps: &[coarse.inner()],
            gradient: &x.starting_at(sample)[coarse.inner()..],
            gradient_stride: coarse.plane(),
            outputs: x.channels,
            len: coarse.run(),
        }
        .add_to(sums);
    });
    (dx, gradient)
}

fn pointwise_one(input: &[f32], packed: &Packed, grid: Grid, then: Epilogue<'_>, out: &mut [f32]) {
    Correlation {
        input,
        input_stride: grid.plane(),
        taps: &[grid.inner()],
        packed,
        bias: then.bias,
        slope: then.slope,
        len: grid.run(),
        output_stride: grid.plane(),
        output_offset: grid.inner(),
    }
    .run(out);
    out.chunks_exact_mut(grid.plane()).for_each(|plane| clear_columns(plane, grid));
}

/// 1x1 convolution; `packed` of [`pack_pointwise`].
pub(crate) fn pointwise(x: &Planes, packed: &Packed, outputs: usize, bias: Option<&[f32]>) -> Planes {
    let mut y = Planes::blank(x.samples, outputs, x.grid);
    let then = Epilogue { bias, slope: 1.0 };
    each_sample(&mut y, |(sample, out)| pointwise_one(x.starting_at(sample), packed, x.grid, then, out));
    y
}

/// Gradients of [`pointwise`] by its input and its weights `[outputs, inputs]`.
pub(crate) fn pointwise_gradients(x: &Planes, dy: &Planes, weight: &[f32]) -> (Planes, Vec<f32>) {
    let packed = Packed::new(x.channels, dy.channels, 1, |i, o, _| weight[o * x.channels + i]);
    let dx = pointwise(dy, &packed, x.channels, None);
    let gradient = sum_over_samples(x.samples, dy.channels * x.channels, |sample, sums| {
        WeightGradient {
            input: x.starting_at(sample),
            input_stride: x.grid.plane(),
            inputs: x.channels,
            taps: &[x.grid.inner()],
            gradient: &dy.starting_at(sample)[x.grid.inner()..],
            gradient_stride: x.grid.plane(),
            outputs: dy.channels,
            len: x.grid.run(),
        }
        .add_to(sums);
    });
    (dx, gradient)
}

/// Sum of every channel over samples and pixels: the gradient by a bias.
pub(crate) fn channel_sums(dy: &Planes) -> Vec<f32> {
    let mut sums = vec![0.0f64; dy.channels];
    for (index, plane) in dy.data[..dy.len()].chunks_exact(dy.grid.plane()).enumerate() {
        sums[index % dy.channels] += plane.chunks(256).map(|c| f64::from(c.iter().sum::<f32>())).sum::<f64>();
    }
    sums.iter().map(|&s| s as f32).collect()
}

fn each_sample(planes: &mut Planes, one: impl Fn((usize, &mut [f32])) + Sync + Send) {
    let sample = planes.sample();
    planes.samples_mut().par_chunks_exact_mut(sample).enumerate().for_each(one);
}

/// Fills one buffer a sample in parallel and adds them in the order of the samples.
fn sum_over_samples(samples: usize, len: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = (0..samples)
        .into_par_iter()
        .map(|sample| {
            let mut sums = vec![0.0; len];
            fill(sample, &mut sums);
            sums
        })
        .collect();
    let mut total = vec![0.0; len];
    for part in &parts {
        total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
    }
    total
}

#[cfg(test)]
mod tests;
