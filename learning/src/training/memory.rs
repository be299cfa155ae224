//! What a training holds at once, for those who run several side by side.

use consilium_common::plan::{Architecture, Encoder, TensorShape, Training};

use crate::network::planes::Grid;

/// Copies of all weights: values, momentum, gradients, and their mean where a batch is computed in parts.
const COPIES: usize = 4;
/// Beside what is counted: packed weights, sums, memory that waits to be used again.
const MORE: f64 = 1.6;

/// About how many bytes one member's training on our own kernels holds at most, its images aside: what a step's forward pass
/// leaves for the backward pass, gradients, weights. Counted layer by layer, and held to what is allocated by a test.
pub fn training_bytes(arch: &Architecture, settings: &Training) -> u64 {
    let samples = settings.batch_size.div_ceil(settings.accumulation.max(1)) as usize;
    let side = settings.patch_px as usize;
    let mut grid = Grid::new(side, side);
    // The input; of every convolution what it gives before and after its normalisation.
    let (mut held, mut stages, mut widest) = (3 * grid.plane(), Vec::new(), 0);
    if arch.encoder == Encoder::Residual {
        held += 2 * arch.features[0] * grid.plane();
    }
    for ((&features, &stride), &convs) in arch.features.iter().zip(&arch.strides).zip(&arch.convs) {
        grid = grid.divided(stride);
        let planes = features * grid.plane();
        held += planes
            * match arch.encoder {
                Encoder::Plain => 2 * convs,
                // Two convolutions, the second of which gives the sum, and in the first block a projection.
                Encoder::Residual => 4 * convs + 1,
            };
        // The gradient of a skip waits for the encoder's turn.
        held += planes;
        widest = widest.max(planes);
        stages.push(planes);
    }
    for (planes, &convs) in stages.iter().rev().skip(1).zip(&arch.decoder_convs) {
        // The skip beside what comes from below, as one.
        held += planes * (2 + 2 * convs);
    }
    // Gradients of one level on their way: of what was joined, before and after a normalisation.
    let of_samples = samples * (held + 5 * widest);
    let weights = COPIES * arch.tensors().iter().map(TensorShape::elements).sum::<usize>();
    let of_threads = rayon::current_num_threads() * widest;
    (4.0 * MORE * (of_samples + weights + of_threads) as f64) as u64
}
