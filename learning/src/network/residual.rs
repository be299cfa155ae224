//! What a residual block adds to its convolutions: averaging over a stride, the sum behind a LeakyReLU, their gradients.

use rayon::prelude::*;

use super::planes::{Grid, Planes};
use super::weights::LEAKY_SLOPE;

/// The mean of every `s` x `s` pixels.
pub(crate) fn average(x: &Planes, s: usize) -> Planes {
    let (fine, coarse) = (x.grid, x.grid.divided(s));
    let mut out = Planes::zeros(x.samples, x.channels, coarse);
    let share = 1.0 / (s * s) as f32;
    let planes = out.samples_mut().par_chunks_exact_mut(coarse.plane());
    planes.zip(x.data.par_chunks_exact(fine.plane())).for_each(|(out, x)| {
        for row in 0..coarse.height {
            let line = &mut out[(row + 1) * coarse.stride() + 1..][..coarse.width];
            for k in 0..s {
                let from = &x[(row * s + k + 1) * fine.stride() + 1..][..coarse.width * s];
                line.iter_mut().zip(from.chunks_exact(s)).for_each(|(sum, few)| *sum += few.iter().sum::<f32>());
            }
            line.iter_mut().for_each(|sum| *sum *= share);
        }
    });
    out
}

/// Gradient of [`average`] by its input.
pub(crate) fn average_gradient(d: &Planes, s: usize, fine: Grid) -> Planes {
    let coarse = d.grid;
    let mut out = Planes::zeros(d.samples, d.channels, fine);
    let share = 1.0 / (s * s) as f32;
    let planes = out.samples_mut().par_chunks_exact_mut(fine.plane());
    planes.zip(d.data.par_chunks_exact(coarse.plane())).for_each(|(out, d)| {
        for row in 0..coarse.height * s {
            let from = &d[(row / s + 1) * coarse.stride() + 1..][..coarse.width];
            let line = &mut out[(row + 1) * fine.stride() + 1..][..coarse.width * s];
            line.chunks_exact_mut(s).zip(from).for_each(|(few, d)| few.fill(d * share));
        }
    });
    out
}

/// Replaces `a` by LeakyReLU of `a + b`.
pub(crate) fn add_leaky(a: &mut Planes, b: &Planes) {
    let plane = a.grid.plane();
    a.samples_mut().par_chunks_exact_mut(plane).zip(b.data.par_chunks_exact(plane)).for_each(|(a, b)| {
        for (a, &b) in a.iter_mut().zip(b) {
            let sum = *a + b;
            *a = if sum >= 0.0 { sum } else { sum * LEAKY_SLOPE };
        }
    });
}

/// Turns the gradient by a LeakyReLU's output `z` into that by its input.
pub(crate) fn leaky_gradient(d: &mut Planes, z: &Planes) {
    let plane = d.grid.plane();
    d.samples_mut().par_chunks_exact_mut(plane).zip(z.data.par_chunks_exact(plane)).for_each(|(d, z)| {
        for (d, &z) in d.iter_mut().zip(z) {
            *d = if z >= 0.0 { *d } else { *d * LEAKY_SLOPE };
        }
    });
}
