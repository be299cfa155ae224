//! The two loops in which all the time goes: correlation of planes with small kernels, and the gradient of its weights.
//!
//! Every layer is brought to this form: an output channel is a sum over input channels and *taps*, a tap being a distance
//! in the flat planes. Plain loops over arrays of fixed length, compiled for the widest instructions that the processor
//! has (`pulp`) and with fused multiply-add throughout and sums in one order, so that any x86-64 processor of the last ten
//! years, with AVX-512 or without, and any number of threads give the same bits.

use pulp::{Simd, WithSimd};

use super::simd::{LANES, cast, vectors};

/// Output pixels that are computed together: two vectors of eight, or one of sixteen for what [`WIDE`] leaves.
const BLOCK: usize = 16;
/// The same where there are 32 registers of sixteen numbers: with fewer sums at a time the multipliers would wait.
const WIDE: usize = 64;
/// Pixels that are left at the end of a run and still computed as a wide block: three narrow ones would take longer.
const LEAST_WIDE: usize = 33;
/// Neighbouring taps of a 3x3 kernel that are read together where their pixels are neighbours too.
const RUN: usize = 3;
/// Output channels that are computed together.
pub(crate) const GROUP: usize = 4;
/// Numbers of a plane that stay in the first cache while weights are correlated.
const TILE: usize = 1024;

/// Weights `[outputs / 4][inputs][taps][4]`, the order in which [`Correlation`] reads them.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    weights: Vec<[f32; GROUP]>,
    outputs: usize,
    inputs: usize,
    taps: usize,
}

impl Packed {
    /// Packs `weight(output, input, tap)`.
    pub(crate) fn new(outputs: usize, inputs: usize, taps: usize, weight: impl Fn(usize, usize, usize) -> f32) -> Self {
        let mut weights = Vec::with_capacity(outputs.div_ceil(GROUP) * inputs * taps);
        for first in (0..outputs).step_by(GROUP) {
            for input in 0..inputs {
                for tap in 0..taps {
                    weights.push(std::array::from_fn(|r| {
                        if first + r < outputs { weight(first + r, input, tap) } else { 0.0 }
                    }));
                }
            }
        }
        Self { weights, outputs, inputs, taps }
    }
}

/// out[o][i] = bias[o] + sum over inputs c and taps t of weight[o][c][t] * input[c * stride + taps[t] + i], i in 0..len.
#[derive(Debug)]
pub(crate) struct Correlation<'a> {
    /// The input planes, from the first one on.
    pub(crate) input: &'a [f32],
    /// Numbers from one input channel to the next.
    pub(crate) input_stride: usize,
    /// The distance of each tap.
    pub(crate) taps: &'a [usize],
    /// The weights.
    pub(crate) packed: &'a Packed,
    /// One a output channel, or none.
    pub(crate) bias: Option<&'a [f32]>,
    /// Slope for negative results; 1 leaves them.
    pub(crate) slope: f32,
    /// Length of the run.
    pub(crate) len: usize,
    /// Numbers from one output channel to the next.
    pub(crate) output_stride: usize,
    /// Where in an output plane the run begins.
    pub(crate) output_offset: usize,
}

impl Correlation<'_> {
    /// Computes all output channels of one sample.
    pub(crate) fn run(&self, output: &mut [f32]) {
        vectors(Blocks { job: self, output });
    }
}

struct Blocks<'a> {
    job: &'a Correlation<'a>,
    output: &'a mut [f32],
}

impl WithSimd for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { job, output } = self;
        let Packed { weights, outputs, inputs, taps } = job.packed;
        if *taps == 0 {
            return;
        }
        let (triples, rest) = job.taps.as_chunks::<RUN>();
        let runs = rest.is_empty() && triples.iter().all(|t| t[1] == t[0] + 1 && t[2] == t[0] + 2);
        for (group, weights) in weights.chunks_exact(inputs * taps).enumerate() {
            let mut row = Row { job, weights, first: group * GROUP, outputs: *outputs, runs, output: &mut *output };
            let mut at = 0;
            while at < job.len {
                let left = job.len - at;
                at += match size_of::<S::f32s>() / size_of::<f32>() {
                    16 if left >= LEAST_WIDE => row.block::<S, WIDE, { WIDE / 16 }>(simd, at),
                    16 => row.block::<S, BLOCK, { BLOCK / 16 }>(simd, at),
                    _ => row.block::<S, BLOCK, { BLOCK / 8 }>(simd, at),
                };
            }
        }
    }
}

/// The output channels of a group.
struct Row<'a> {
    job: &'a Correlation<'a>,
    weights: &'a [[f32; GROUP]],
    /// The first of them.
    first: usize,
    outputs: usize,
    /// Whether taps come in runs of [`RUN`] neighbours.
    runs: bool,
    output: &'a mut [f32],
}

impl Row<'_> {
    /// Computes `SIZE` pixels, `VECTORS` vectors, from `at` on; what is beyond the run is dropped. Returns their number.
    #[inline(always)]
    fn block<S: Simd, const SIZE: usize, const VECTORS: usize>(&mut self, simd: S, at: usize) -> usize {
        let Self { job, first, .. } = *self;
        let bias = |r: usize| job.bias.and_then(|b| b.get(first + r)).copied().unwrap_or(0.0);
        let start: [f32; GROUP] = std::array::from_fn(bias);
        let sums = if self.runs {
            job.block::<S, RUN, SIZE, VECTORS>(simd, self.weights, start, at)
        } else {
            job.block::<S, 1, SIZE, VECTORS>(simd, self.weights, start, at)
        };
        let count = SIZE.min(job.len - at);
        for (r, sums) in sums.iter().enumerate().take(self.outputs - first) {
            let to = (first + r) * job.output_stride + job.output_offset + at;
            match self.output.get_mut(to..).and_then(|o| o.first_chunk_mut::<SIZE>()) {
                // A copy of known length is a few stores; of any length it is a call.
                Some(whole) if count == SIZE => *whole = *sums,
                _ => self.output[to..to + count].copy_from_slice(&sums[..count]),
            }
        }
        count
    }
}

impl Correlation<'_> {
    #[inline(always)]
    fn block<S: Simd, const STEP: usize, const SIZE: usize, const VECTORS: usize>(
        &self,
        simd: S,
        weights: &[[f32; GROUP]],
        start: [f32; GROUP],
        at: usize,
    ) -> [[f32; SIZE]; GROUP] {
        let mut sums = start.map(|v| [simd.splat_f32s(v); VECTORS]);
        for (channel, weights) in weights.chunks_exact(self.taps.len()).enumerate() {
            let plane = &self.input[channel * self.input_stride + at..];
            for (weights, &tap) in weights.as_chunks::<STEP>().0.iter().zip(self.taps.iter().step_by(STEP)) {
                let pixels = &plane[tap..tap + SIZE + STEP - 1];
                for (step, weight) in weights.iter().enumerate() {
                    let Some(pixels) = pixels[step..].first_chunk::<SIZE>() else { continue };
                    let pixels: [S::f32s; VECTORS] = cast(*pixels);
                    for r in 0..GROUP {
                        let weight = simd.splat_f32s(weight[r]);
                        for i in 0..VECTORS {
                            sums[r][i] = simd.mul_add_f32s(pixels[i], weight, sums[r][i]);
                        }
                    }
                }
            }
        }
        // Not by `map`, which is a call where it is not compiled into this function, and without its vectors.
        let (mut done, slope) = ([[0.0; SIZE]; GROUP], self.slope);
        for (done, sums) in done.iter_mut().zip(sums) {
            *done = cast(sums);
            for sum in done {
                *sum = if *sum >= 0.0 { *sum } else { *sum * slope };
            }
        }
        done
    }
}

/// sums[o][c][t] += sum over i in 0..len of gradient[o][i] * input[c * stride + taps[t] + i].
#[derive(Debug)]
pub(crate) struct WeightGradient<'a> {
    /// The input planes, from the first one on.
    pub(crate) input: &'a [f32],
    /// Numbers from one input channel to the next.
    pub(crate) input_stride: usize,
    /// Input channels.
    pub(crate) inputs: usize,
    /// The distance of each tap.
    pub(crate) taps: &'a [usize],
    /// The planes of the gradient, from the beginning of the first run on. What lies between its rows is zero.
    pub(crate) gradient: &'a [f32],
    /// Numbers from one plane of the gradient to the next.
    pub(crate) gradient_stride: usize,
    /// Output channels.
    pub(crate) outputs: usize,
    /// Length of the run.
    pub(crate) len: usize,
}

impl WeightGradient<'_> {
    /// Adds to `[outputs][inputs][taps]`.
    pub(crate) fn add_to(&self, sums: &mut [f32]) {
        vectors(Tiles { job: self, sums });
    }

    /// With `ROWS` gradients at a time, whose sums with three inputs fill the registers: a row of sums is `VECTORS` vectors.
    #[inline(always)]
    fn tiles<S: Simd, const ROWS: usize, const VECTORS: usize>(&self, simd: S, sums: &mut [f32]) {
        let taps = self.taps.len();
        for start in (0..self.len).step_by(TILE) {
            let len = TILE.min(self.len - start);
            let padded = len.next_multiple_of(LANES);
            for first in (0..self.outputs).step_by(ROWS) {
                let rows = ROWS.min(self.outputs - first);
                // A missing row is read from the last one and its sum is dropped.
                let gradient: [&[f32]; ROWS] = std::array::from_fn(|r| {
                    let from = (first + r.min(rows - 1)) * self.gradient_stride + start;
                    &self.gradient[from..from + len]
                });
                for channel in 0..self.inputs {
                    let plane = &self.input[channel * self.input_stride + start..];
                    let mut tap = 0;
                    while tap < taps {
                        let step = if taps - tap >= RUN { RUN } else { 1 };
                        let found = if step == RUN {
                            let input = std::array::from_fn(|t| &plane[self.taps[tap + t]..][..padded]);
                            dots::<S, ROWS, RUN, VECTORS>(simd, gradient, input)
                        } else {
                            let input = [&plane[self.taps[tap]..][..padded]];
                            let [one] = dots::<S, ROWS, 1, VECTORS>(simd, gradient, input);
                            [one, [0.0; ROWS], [0.0; ROWS]]
                        };
                        for (t, found) in found.iter().enumerate().take(step) {
                            for (r, found) in found.iter().enumerate().take(rows) {
                                sums[((first + r) * self.inputs + channel) * taps + tap + t] += found;
                            }
                        }
                        tap += step;
                    }
                }
            }
        }
    }
}

struct Tiles<'a> {
    job: &'a WeightGradient<'a>,
    sums: &'a mut [f32],
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match size_of::<S::f32s>() / size_of::<f32>() {
            16 => self.job.tiles::<S, 4, { LANES / 16 }>(simd, self.sums),
            // Of sixteen registers twelve are sums.
            _ => self.job.tiles::<S, 2, { LANES / 8 }>(simd, self.sums),
        }
    }
}

/// The dot products of some gradients of one length with `T` shifted inputs, which go on to a multiple of [`LANES`].
#[inline(always)]
fn dots<S: Simd, const ROWS: usize, const T: usize, const VECTORS: usize>(
    simd: S,
    gradient: [&[f32]; ROWS],
    input: [&[f32]; T],
) -> [[f32; ROWS]; T] {
    let mut sums = [[[simd.splat_f32s(0.0); VECTORS]; ROWS]; T];
    let rest = gradient.map(|g| g.as_chunks::<LANES>().1);
    let gradient = gradient.map(|g| g.as_chunks::<LANES>().0);
    let input = input.map(|x| x.as_chunks::<LANES>().0);
    let blocks = gradient[0].len();
    let gradient = gradient.map(|g| &g[..blocks]);
    let (input, last) = (input.map(|x| &x[..blocks]), input.map(|x| x.get(blocks)));
    for block in 0..blocks {
        let gradient = std::array::from_fn(|r| gradient[r][block]);
        add_products(simd, &mut sums, gradient, std::array::from_fn(|t| input[t][block]));
    }
    if !rest[0].is_empty() {
        let padded = rest.map(|rest| std::array::from_fn(|i| rest.get(i).copied().unwrap_or(0.0)));
        add_products(simd, &mut sums, padded, last.map(|last| last.copied().unwrap_or([0.0; LANES])));
    }
    let mut totals = [[0.0; ROWS]; T];
    for (totals, sums) in totals.iter_mut().zip(sums) {
        for (total, lanes) in totals.iter_mut().zip(sums) {
            *total = cast::<_, [f32; LANES]>(lanes).iter().sum();
        }
    }
    totals
}

#[inline(always)]
fn add_products<S: Simd, const ROWS: usize, const T: usize, const VECTORS: usize>(
    simd: S,
    sums: &mut [[[S::f32s; VECTORS]; ROWS]; T],
    gradient: [[f32; LANES]; ROWS],
    input: [[f32; LANES]; T],
) {
    let gradient: [[S::f32s; VECTORS]; ROWS] = gradient.map(cast);
    for t in 0..T {
        let pixels: [S::f32s; VECTORS] = cast(input[t]);
        for r in 0..ROWS {
            for i in 0..VECTORS {
                sums[t][r][i] = simd.mul_add_f32s(pixels[i], gradient[r][i], sums[t][r][i]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
