//! The two loops in which all the time goes: correlation of planes with small kernels, and the gradient of its weights.
//!
//! Every layer is brought to this form: an output channel is a sum over input channels and *taps*, a tap being a distance
//! in the flat planes. Plain loops over arrays of fixed length, compiled for the widest instructions that the processor
//! has (`pulp`) and with fused multiply-add throughout, so that any x86-64 processor of the last ten years and any
//! number of threads give the same bits.

use pulp::{Simd, WithSimd};

use super::simd::{LANES, cast, vectors};

/// Output pixels that are computed together.
const BLOCK: usize = 16;
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
            let first = group * GROUP;
            let rows = GROUP.min(outputs - first);
            let start: [f32; GROUP] =
                std::array::from_fn(|r| job.bias.and_then(|b| b.get(first + r)).copied().unwrap_or(0.0));
            for at in (0..job.len).step_by(BLOCK) {
                let sums = if runs {
                    job.block::<S, RUN>(simd, weights, start, at)
                } else {
                    job.block::<S, 1>(simd, weights, start, at)
                };
                let count = BLOCK.min(job.len - at);
                for (r, sums) in sums.iter().enumerate().take(rows) {
                    let to = (first + r) * job.output_stride + job.output_offset + at;
                    match output.get_mut(to..).and_then(|o| o.first_chunk_mut::<BLOCK>()) {
                        // A copy of known length is three stores; of any length it is a call.
                        Some(whole) if count == BLOCK => *whole = *sums,
                        _ => output[to..to + count].copy_from_slice(&sums[..count]),
                    }
                }
            }
        }
    }
}

impl Correlation<'_> {
    #[inline(always)]
    fn block<S: Simd, const STEP: usize>(
        &self,
        simd: S,
        weights: &[[f32; GROUP]],
        start: [f32; GROUP],
        at: usize,
    ) -> [[f32; BLOCK]; GROUP] {
        let mut sums = start.map(|v| [simd.splat_f32s(v); BLOCK / LANES]);
        for (channel, weights) in weights.chunks_exact(self.taps.len()).enumerate() {
            let plane = &self.input[channel * self.input_stride + at..];
            for (weights, &tap) in weights.as_chunks::<STEP>().0.iter().zip(self.taps.iter().step_by(STEP)) {
                let Some(pixels) = plane.get(tap..).and_then(|p| p.first_chunk::<{ BLOCK + RUN - 1 }>()) else {
                    continue;
                };
                for (step, weight) in weights.iter().enumerate() {
                    let Some(pixels) = pixels[step..].first_chunk::<BLOCK>() else { continue };
                    let pixels: [S::f32s; BLOCK / LANES] = cast(*pixels);
                    for r in 0..GROUP {
                        let weight = simd.splat_f32s(weight[r]);
                        for i in 0..BLOCK / LANES {
                            sums[r][i] = simd.mul_add_f32s(pixels[i], weight, sums[r][i]);
                        }
                    }
                }
            }
        }
        let mut sums: [[f32; BLOCK]; GROUP] = sums.map(cast);
        for sum in sums.as_flattened_mut() {
            *sum = if *sum >= 0.0 { *sum } else { *sum * self.slope };
        }
        sums
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
    /// The planes of the gradient, from the beginning of the first run on. What lies between the rows is zero.
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

    #[inline(always)]
    fn tiles<S: Simd>(&self, simd: S, sums: &mut [f32]) {
        let taps = self.taps.len();
        let padded = self.len.next_multiple_of(LANES);
        for start in (0..padded).step_by(TILE) {
            let len = TILE.min(padded - start);
            for first in (0..self.outputs).step_by(GROUP) {
                let rows = GROUP.min(self.outputs - first);
                // A missing row is read from the last one and its sum is dropped.
                let gradient: [&[f32]; GROUP] = std::array::from_fn(|r| {
                    let from = (first + r.min(rows - 1)) * self.gradient_stride + start;
                    &self.gradient[from..from + len]
                });
                for channel in 0..self.inputs {
                    let plane = &self.input[channel * self.input_stride + start..];
                    let mut tap = 0;
                    while tap < taps {
                        let step = if taps - tap >= 3 { 3 } else { 1 };
                        let found = if step == 3 {
                            dots(simd, gradient, std::array::from_fn(|t| &plane[self.taps[tap + t]..][..len]))
                        } else {
                            let [one] = dots(simd, gradient, [&plane[self.taps[tap]..][..len]]);
                            [one, [0.0; GROUP], [0.0; GROUP]]
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
        self.job.tiles(simd, self.sums);
    }
}

/// The dot products of four gradients with `T` shifted inputs, all of one length.
#[inline(always)]
fn dots<S: Simd, const T: usize>(simd: S, gradient: [&[f32]; GROUP], input: [&[f32]; T]) -> [[f32; GROUP]; T] {
    let mut sums = [[simd.splat_f32s(0.0); GROUP]; T];
    let gradient = gradient.map(|g| g.as_chunks::<LANES>().0);
    let input = input.map(|x| x.as_chunks::<LANES>().0);
    let blocks = gradient[0].len();
    let gradient = gradient.map(|g| &g[..blocks]);
    let input = input.map(|x| &x[..blocks]);
    for block in 0..blocks {
        // Twelve sums, three pixels and one gradient are the sixteen registers that there are.
        let pixels: [S::f32s; T] = std::array::from_fn(|t| cast(input[t][block]));
        for r in 0..GROUP {
            let gradient: S::f32s = cast(gradient[r][block]);
            for t in 0..T {
                sums[t][r] = simd.mul_add_f32s(pixels[t], gradient, sums[t][r]);
            }
        }
    }
    sums.map(|row| row.map(|lanes| cast::<_, [f32; LANES]>(lanes).iter().sum()))
}
