//! nnU-Net's loss, value and gradient in closed form: cross-entropy minus soft Dice (batch Dice, foreground only), as
//! Isensee et al. 2021 train with. Pixels labelled 255 take no part in either.
//!
//! The gradient by the logits is written down instead of left to autodiff: two passes over the pixels instead of twenty.

use consilium_common::plan::UNLABELLED;

use crate::network::softmax;

/// nnU-Net's smoothing term in the numerator and the denominator of Dice.
pub(super) const SMOOTH: f64 = 1e-5;

/// Loss of logits `[n, classes, pixels]` against labels `[n, pixels]`, and its gradient by the logits. Without a labelled
/// pixel both are zero.
pub(crate) fn loss_and_gradient(logits: &[f32], labels: &[u8], classes: usize, batch: usize) -> (f64, Vec<f32>) {
    let pixels = labels.len() / batch.max(1);
    let mut probabilities = logits.to_vec();
    let sums = softmax_and_sums(&mut probabilities, labels, classes, pixels);
    if sums.labelled == 0 {
        return (0.0, vec![0.0; logits.len()]);
    }
    let foreground = (classes - 1) as f64;
    let labelled = sums.labelled as f64;
    let mut dice = 0.0;
    // dLoss/dp of class k at a pixel is `hit[k] + all[k]` where the label is k, and `all[k]` elsewhere.
    let (mut hit, mut all) = (vec![0.0f32; classes], vec![0.0f32; classes]);
    for k in 1..classes {
        let numerator = 2.0 * sums.intersection[k] + SMOOTH;
        let denominator = (sums.predicted[k] + sums.present[k] + SMOOTH).max(1e-8);
        dice += numerator / denominator / foreground;
        hit[k] = (-2.0 / denominator / foreground) as f32;
        all[k] = (numerator / (denominator * denominator) / foreground) as f32;
    }
    let weight = (1.0 / labelled) as f32;
    into_gradient(&mut probabilities, labels, classes, pixels, &hit, &all, weight);
    (sums.cross_entropy / labelled - dice, probabilities)
}

#[derive(Debug)]
struct Sums {
    cross_entropy: f64,
    labelled: usize,
    intersection: Vec<f64>,
    predicted: Vec<f64>,
    present: Vec<f64>,
}

/// Turns logits into probabilities in place and collects the sums over labelled pixels.
fn softmax_and_sums(values: &mut [f32], labels: &[u8], classes: usize, pixels: usize) -> Sums {
    let zeros = || vec![0.0f64; classes];
    let mut sums =
        Sums { cross_entropy: 0.0, labelled: 0, intersection: zeros(), predicted: zeros(), present: zeros() };
    for (image, labels) in values.chunks_exact_mut(classes * pixels).zip(labels.chunks_exact(pixels)) {
        let label_logits: Vec<f32> = (0..pixels)
            .map(|i| if labels[i] == UNLABELLED { 0.0 } else { image[usize::from(labels[i]) * pixels + i] })
            .collect();
        let log_sum = softmax(image, classes, pixels);
        for (i, &label) in labels.iter().enumerate() {
            if label == UNLABELLED {
                continue;
            }
            let class = usize::from(label);
            sums.labelled += 1;
            sums.cross_entropy += f64::from(log_sum[i] - label_logits[i]);
            sums.intersection[class] += f64::from(image[class * pixels + i]);
            sums.present[class] += 1.0;
            for k in 1..classes {
                sums.predicted[k] += f64::from(image[k * pixels + i]);
            }
        }
    }
    sums
}

/// Turns probabilities into the gradient by the logits, in place: p - y for cross-entropy, and for Dice the chain rule
/// through softmax, p_c (g_c - sum_k g_k p_k).
fn into_gradient(
    values: &mut [f32],
    labels: &[u8],
    classes: usize,
    pixels: usize,
    hit: &[f32],
    all: &[f32],
    ce_weight: f32,
) {
    for (image, labels) in values.chunks_exact_mut(classes * pixels).zip(labels.chunks_exact(pixels)) {
        for (i, &label) in labels.iter().enumerate() {
            if label == UNLABELLED {
                (0..classes).for_each(|k| image[k * pixels + i] = 0.0);
                continue;
            }
            let class = usize::from(label);
            let mut mean = hit[class] * image[class * pixels + i];
            for k in 1..classes {
                mean += all[k] * image[k * pixels + i];
            }
            for k in 0..classes {
                let own = if k == class { 1.0 } else { 0.0 };
                let p = image[k * pixels + i];
                image[k * pixels + i] = ce_weight * (p - own) + p * (all[k] + own * hit[k] - mean);
            }
        }
    }
}

/// Weights of the decoder levels, finest first: 2^-i, the coarsest 0, sum 1. A single level has weight 1.
pub(crate) fn level_weights(levels: usize, deep_supervision: bool) -> Vec<f64> {
    if levels <= 1 || !deep_supervision {
        return (0..levels).map(|i| if i == 0 { 1.0 } else { 0.0 }).collect();
    }
    let raw: Vec<f64> = (0..levels).map(|i| if i + 1 == levels { 0.0 } else { 0.5f64.powi(i as i32) }).collect();
    let total: f64 = raw.iter().sum();
    raw.iter().map(|w| w / total).collect()
}

/// Label maps `[n, side, side]` at a coarser level: the label at the middle of each block, as nnU-Net's nearest rule.
pub(crate) fn downsample_labels(labels: &[u8], side: usize, factor: usize) -> Vec<u8> {
    let out = side / factor;
    let mut coarse = Vec::with_capacity(labels.len() / (factor * factor).max(1));
    for map in labels.chunks_exact(side * side) {
        for y in 0..out {
            let row = &map[(y * factor + factor / 2) * side..];
            coarse.extend((0..out).map(|x| row[x * factor + factor / 2]));
        }
    }
    coarse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradient_is_that_of_the_value() {
        let (classes, batch, pixels) = (3, 2, 4);
        let logits: Vec<f32> = (0..classes * batch * pixels).map(|i| ((i * 37 % 11) as f32 - 5.0) / 3.0).collect();
        let labels = [0, 1, 2, UNLABELLED, 1, 1, 0, 2];
        let (_, gradient) = loss_and_gradient(&logits, &labels, classes, batch);
        for i in 0..logits.len() {
            let at = |step: f32| {
                let mut moved = logits.clone();
                moved[i] += step;
                loss_and_gradient(&moved, &labels, classes, batch).0
            };
            let slope = (at(1e-3) - at(-1e-3)) / 2e-3;
            assert!((slope - f64::from(gradient[i])).abs() < 1e-4, "{i}: {slope} against {}", gradient[i]);
        }
        // The unlabelled pixel, the last of the first image, moves nothing.
        assert!((0..classes).all(|k| gradient[k * pixels + 3] == 0.0));
    }

    #[test]
    fn without_labels_there_is_no_loss() {
        let (loss, gradient) = loss_and_gradient(&[1.0, 2.0, 3.0, 4.0], &[UNLABELLED; 2], 2, 1);
        assert_eq!((loss, gradient), (0.0, vec![0.0; 4]));
    }

    #[test]
    fn weights_are_those_of_the_paper() {
        assert_eq!(level_weights(1, true), [1.0]);
        assert_eq!(level_weights(3, false), [1.0, 0.0, 0.0]);
        let eight = level_weights(8, true);
        let published = [0.50394, 0.25197, 0.12598, 0.06299, 0.03150, 0.01575, 0.00787, 0.0];
        assert!(eight.iter().zip(published).all(|(a, b)| (a - b).abs() < 1e-5), "{eight:?}");
    }

    #[test]
    fn labels_shrink_by_picking_the_middle() {
        let labels: Vec<u8> = (0..16).collect();
        assert_eq!(downsample_labels(&labels, 4, 2), [5, 7, 13, 15]);
        assert_eq!(downsample_labels(&labels, 4, 4), [10]);
    }
}
