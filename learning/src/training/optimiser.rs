//! Stochastic gradient descent as torch and nnU-Net do it: weight decay, global clipping, Nesterov momentum without
//! dampening, polynomial learning rate; and, where it is asked for, FedProx's pull back to the start.

use consilium_common::plan::Training;

/// Exponent of the learning rate's fall.
const POWER: f64 = 0.9;

/// The momentum of every tensor.
#[derive(Debug)]
pub(crate) struct Sgd {
    velocity: Vec<Vec<f32>>,
    /// Which tensors are changed.
    trainable: Vec<bool>,
    /// Where every tensor began; empty without a pull back to it.
    start: Vec<Vec<f32>>,
}

impl Sgd {
    pub(crate) fn new(trainable: Vec<bool>, values: &[Vec<f32>], settings: &Training) -> Self {
        let start = if settings.proximal > 0.0 { values.to_vec() } else { Vec::new() };
        Self { velocity: vec![Vec::new(); trainable.len()], trainable, start }
    }

    /// One step. The first one takes the gradient as velocity, as torch does.
    pub(crate) fn step(&mut self, values: &mut [Vec<f32>], gradients: &[Vec<f32>], settings: &Training, rate: f64) {
        let clip = clip_factor(gradients, settings.clip_norm) as f32;
        let (momentum, decay, rate) = (settings.momentum as f32, settings.weight_decay as f32, rate as f32);
        let pull = settings.proximal as f32;
        for (index, (values, gradient)) in values.iter_mut().zip(gradients).enumerate() {
            if !self.trainable[index] {
                continue;
            }
            let velocity = &mut self.velocity[index];
            let first = velocity.is_empty();
            velocity.resize(values.len(), 0.0);
            let start = self.start.get(index).map_or(&[][..], Vec::as_slice);
            for (i, ((value, gradient), velocity)) in values.iter_mut().zip(gradient).zip(velocity).enumerate() {
                let mut gradient = gradient * clip + decay * *value;
                if let Some(start) = start.get(i) {
                    gradient += pull * (*value - start);
                }
                *velocity = if first { gradient } else { momentum * *velocity + gradient };
                *value -= rate * (gradient + momentum * *velocity);
            }
        }
    }
}

/// torch's `clip_grad_norm_`: what all gradients are multiplied by so that their joint norm stays within the bound.
fn clip_factor(gradients: &[Vec<f32>], bound: f64) -> f64 {
    let square = |g: &Vec<f32>| g.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
    let norm = gradients.iter().map(square).sum::<f64>().sqrt();
    (bound / (norm + 1e-6)).min(1.0)
}

/// Learning rate of a step: `initial * (1 - t / steps)^0.9` with steps and t of its cycle.
pub(crate) fn learning_rate(settings: &Training, step: u32) -> f64 {
    let cycle = settings.iterations / settings.snapshots.max(1);
    settings.learning_rate * (1.0 - f64::from(step % cycle.max(1)) / f64::from(cycle)).powf(POWER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_joint_norm_is_clipped() {
        let gradients = vec![vec![3.0, 0.0], vec![4.0]];
        assert!((clip_factor(&gradients, 1.0) - 0.2).abs() < 1e-6);
        assert!((clip_factor(&gradients, 12.0) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_rate_falls_to_nearly_nothing() {
        let settings = Training::new(100, 1, 16, 0.01);
        assert!((learning_rate(&settings, 0) - 0.01).abs() < 1e-12);
        assert!(learning_rate(&settings, 99) < 0.0002);
        let cyclic = Training { snapshots: 4, ..settings };
        assert_eq!(learning_rate(&cyclic, 25).to_bits(), 0.01f64.to_bits());
        assert!(learning_rate(&cyclic, 24) < 0.001);
    }
}
