//! Whole trainings: against PyTorch, repeatable on any number of threads, and learning something.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use consilium_common::plan::{Encoder, Norm, TensorShape};
use image::{Luma, Rgb};

use super::sampler::Batch;
use super::*;
use crate::engine::{Device, Precision};
use crate::network::{InputScale, Predictor, WeightTensor};
use crate::testing::predicted;

/// Written by tests/interop/golden_training.py.
const GOLDEN: &str = include_str!("../../tests/golden/training.json");

/// The generator of the script.
struct Numbers(u32);

impl Numbers {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1u32 << 24)
    }

    fn label(&mut self) -> u8 {
        [0, 1, 2, UNLABELLED][(self.unit() * 4.0) as usize]
    }

    fn tensor(&mut self, t: &TensorShape) -> Vec<f32> {
        let fan_in: usize = t.shape[1..].iter().product();
        let mut value = || {
            let u = self.unit();
            let value = match t.name.as_str() {
                _ if t.shape.len() == 4 => (u - 0.5) * 2.0 * (6.0 / fan_in as f64).sqrt(),
                n if n.ends_with("running_var") => 0.5 + u,
                n if n.ends_with("norm.weight") => 1.0 + (u - 0.5) * 0.5,
                _ => (u - 0.5) * 0.2,
            };
            value as f32
        };
        (0..t.elements()).map(|_| value()).collect()
    }
}

fn golden() -> serde_json::Value {
    serde_json::from_str(GOLDEN).unwrap()
}

fn floats(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn loss_and_gradient_are_those_of_pytorch() {
    let mut numbers = Numbers(5);
    let logits: Vec<f32> = (0..2 * 3 * 20).map(|_| ((numbers.unit() - 0.5) * 6.0) as f32).collect();
    let labels: Vec<u8> = (0..2 * 20).map(|_| numbers.label()).collect();
    let (loss, gradient) = loss::loss_and_gradient(&logits, &labels, 3, 2);
    let golden = golden();
    assert!((loss - golden["loss"]["loss"].as_f64().unwrap()).abs() < 1e-5);
    for (ours, theirs) in gradient.iter().zip(floats(&golden["loss"]["gradient"])) {
        assert!((f64::from(*ours) - theirs).abs() < 1e-6, "{ours} against {theirs}");
    }
}

#[test]
fn ten_steps_are_those_of_pytorch() {
    for run in golden()["runs"].as_array().unwrap() {
        let norm = if run["norm"] == "batch" { Norm::Batch } else { Norm::Instance };
        let frozen = run["frozen"].as_bool().unwrap();
        let plain = Architecture {
            features: vec![4, 6, 8, 10],
            strides: vec![1, 2, 2, 2],
            convs: vec![2, 1, 2, 2],
            decoder_convs: vec![2, 1, 2],
            norm,
            ..Architecture::plain(3, 4, 4)
        };
        let residual = Architecture {
            encoder: Encoder::Residual,
            features: vec![4, 6, 6, 8],
            strides: vec![1, 1, 2, 2],
            convs: vec![1, 2, 1, 2],
            decoder_convs: vec![1; 3],
            ..plain.clone()
        };
        let arch = if run["encoder"] == "residual" { residual } else { plain };
        let mut numbers = Numbers(7);
        let fill = |t: TensorShape| {
            let values = numbers.tensor(&t);
            (t.name, WeightTensor { shape: t.shape, values })
        };
        let start = MemberWeights::from_tensors(arch.tensors().into_iter().map(fill).collect());
        let mut numbers = Numbers(99);
        let pixels = (0..2 * 3 * 256).map(|_| numbers.unit() as f32).collect();
        let batch = Batch { pixels, labels: (0..2 * 256).map(|_| numbers.label()).collect() };
        let settings = Training { freeze_norm_statistics: frozen, ..Training::new(10, 2, 16, 0.05) };
        for trainer in trainers() {
            let mut learner = trainer.learner(&arch, &start, &settings).unwrap();
            for (step, theirs) in (0..).zip(floats(&run["losses"])) {
                let ours = f64::from(learner.step(&batch, optimiser::learning_rate(&settings, step)).unwrap());
                assert!(
                    (ours - theirs).abs() < 1e-5,
                    "{trainer:?} {arch:?} frozen {frozen} step {step}: {ours} against {theirs}"
                );
            }
            let after = learner.weights().unwrap();
            for (name, t) in after.iter() {
                let values = t.values.iter().map(|&v| f64::from(v));
                let ours = [
                    values.clone().sum(),
                    values.clone().map(|v| v * v).sum(),
                    values.clone().next().unwrap(),
                    f64::from(t.values[t.values.len() - 1]),
                ];
                for (ours, theirs) in ours.iter().zip(floats(&run["tensors"][name])) {
                    assert!(
                        (ours - theirs).abs() < 1e-4 * (1.0 + theirs.abs()),
                        "{trainer:?} {name}: {ours} against {theirs}"
                    );
                }
            }
            let Some(estimated) = run["estimated"].as_object() else { continue };
            // Every row the other way round.
            let turned = batch.pixels.chunks_exact(16).flat_map(|row| row.iter().rev().copied()).collect();
            let mirrored = Batch { pixels: turned, labels: batch.labels.clone() };
            for batch in [&batch, &mirrored] {
                learner.estimate_statistics(batch).unwrap();
            }
            let anew = learner.weights().unwrap();
            for (name, t) in anew.iter() {
                let Some(theirs) = estimated.get(name) else {
                    assert_eq!(Some(t), after.get(name), "{name} is no statistic");
                    continue;
                };
                let values = t.values.iter().map(|&v| f64::from(v));
                for (ours, theirs) in
                    [values.clone().sum(), values.map(|v| v * v).sum::<f64>()].iter().zip(floats(theirs))
                {
                    assert!(
                        (ours - theirs).abs() < 1e-4 * (1.0 + theirs.abs()),
                        "{trainer:?} {name}, estimated anew: {ours} against {theirs}"
                    );
                }
            }
        }
    }
}

#[test]
fn statistics_are_estimated_anew_after_the_last_step() {
    let (arch, settings) = small(3);
    let start = MemberWeights::initialise(&arch, 2);
    let trained = |batches| {
        let settings = Training { freeze_norm_statistics: true, norm_statistics_batches: batches, ..settings.clone() };
        train_member(Trainer::Cpu, &arch, &start, &[toy(64, 0)], &settings, 4, &|_, _| true).unwrap().weights
    };
    let (without, with, longer) = (trained(0), trained(2), trained(3));
    for (name, tensor) in with.iter() {
        let statistic = name.contains("running");
        assert_eq!(without.get(name) == Some(tensor), !statistic, "{name}");
        assert_eq!(longer.get(name) == Some(tensor), !statistic, "{name}: another batch counts");
    }
}

#[test]
fn a_batch_in_parts_steps_by_the_mean_of_their_gradients() {
    let arch = Architecture { norm: Norm::Instance, ..Architecture::plain(3, 4, 3) };
    let mut numbers = Numbers(5);
    let mut part = || Batch {
        pixels: (0..3 * 256).map(|_| numbers.unit() as f32).collect(),
        labels: (0..256).map(|_| numbers.label()).collect(),
    };
    // The coarser levels of the last part have nothing labelled.
    let parts = [part(), part(), Batch { labels: (0..256).map(|i| if i == 17 { 1 } else { 255 }).collect(), ..part() }];
    let both = Batch {
        pixels: parts.iter().flat_map(|part| part.pixels.clone()).collect(),
        labels: parts.iter().flat_map(|part| part.labels.clone()).collect(),
    };
    let start = MemberWeights::initialise(&arch, 3);
    let one = Training { momentum: 0.0, weight_decay: 0.0, clip_norm: 1e6, ..Training::new(1, 1, 16, 0.1) };
    let three = Training { batch_size: 3, accumulation: 3, ..one.clone() };
    for trainer in trainers() {
        let after = |settings: &Training, batch: &Batch| {
            let mut learner = trainer.learner(&arch, &start, settings).unwrap();
            let loss = learner.step(batch, 0.1).unwrap();
            (loss, learner.weights().unwrap())
        };
        let apart = parts.each_ref().map(|part| after(&one, part));
        let (loss, together) = after(&three, &both);
        assert!((loss - apart.iter().map(|(loss, _)| loss / 3.0).sum::<f32>()).abs() < 1e-5, "{trainer:?}");
        for (name, tensor) in together.iter() {
            for (index, value) in tensor.values.iter().enumerate() {
                let mean = apart.iter().map(|(_, w)| w.get(name).unwrap().values[index] / 3.0).sum::<f32>();
                assert!((value - mean).abs() < 1e-5, "{trainer:?} {name}[{index}]: {value} against {mean}");
            }
        }
    }
}

#[test]
fn a_training_is_pulled_back_to_its_start() {
    let arch = Architecture { norm: Norm::Instance, ..Architecture::plain(3, 4, 3) };
    let mut numbers = Numbers(5);
    let batch = Batch {
        pixels: (0..3 * 256).map(|_| numbers.unit() as f32).collect(),
        labels: (0..256).map(|_| numbers.label()).collect(),
    };
    let start = MemberWeights::initialise(&arch, 3);
    let free = Training { momentum: 0.0, weight_decay: 0.0, clip_norm: 1e6, ..Training::new(2, 1, 16, 0.1) };
    let pulled = Training { proximal: 0.5, ..free.clone() };
    for trainer in trainers() {
        let after = |settings: &Training, steps: usize| {
            let mut learner = trainer.learner(&arch, &start, settings).unwrap();
            for _ in 0..steps {
                learner.step(&batch, 0.1).unwrap();
            }
            learner.weights().unwrap()
        };
        let (one, two) = (after(&free, 1), after(&free, 2));
        assert!(after(&pulled, 1).iter().eq(one.iter()), "{trainer:?}: nothing pulls at the start");
        for (name, tensor) in after(&pulled, 2).iter() {
            for (index, value) in tensor.values.iter().enumerate() {
                let of = |weights: &MemberWeights| weights.get(name).unwrap().values[index];
                let expected = of(&two) - 0.1 * 0.5 * (of(&one) - of(&start));
                assert!((value - expected).abs() < 1e-6, "{trainer:?} {name}[{index}]: {value} against {expected}");
            }
        }
    }
}

/// Every engine of this program that trains.
fn trainers() -> Vec<Trainer> {
    let mut trainers = vec![Trainer::Cpu];
    if cfg!(feature = "libtorch") {
        trainers.push(Trainer::on(Device::Libtorch(Precision::Fp32)).unwrap().0);
    }
    trainers
}

/// Dark discs on a light ground.
fn toy(size: u32, offset: u32) -> TrainingImage {
    let inside = |x: u32, y: u32| {
        let d = |v: u32| f64::from((v + offset) % 24) - 12.0;
        d(x).hypot(d(y)) < 7.0
    };
    let noise = |x: u32, y: u32| ((x * 31 + y * 17) % 29) as u8;
    let colour = |x, y| if inside(x, y) { [110, 60, 120] } else { [220, 180, 200] }.map(|v: u8| v - noise(x, y));
    TrainingImage {
        image: RgbImage::from_fn(size, size, |x, y| Rgb(colour(x, y))),
        labels: GrayImage::from_fn(size, size, |x, y| Luma([u8::from(inside(x, y))])),
        input: InputScale::RGB_TO_01,
    }
}

fn small(iterations: u32) -> (Architecture, Training) {
    (Architecture::plain(2, 4, 3), Training { momentum: 0.9, ..Training::new(iterations, 2, 32, 0.02) })
}

fn on_threads<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

#[test]
fn a_training_does_not_depend_on_threads() {
    let (arch, settings) = small(6);
    let images = [toy(64, 0), toy(40, 5)];
    let start = MemberWeights::initialise(&arch, 1);
    let run = || train_member(Trainer::Cpu, &arch, &start, &images, &settings, 9, &|_, _| true).unwrap();
    let one = on_threads(1, run);
    for threads in [2, 3, 5] {
        let more = on_threads(threads, run);
        assert_eq!(one.weights.to_bytes().unwrap(), more.weights.to_bytes().unwrap(), "{threads} threads");
        assert_eq!(one.losses, more.losses);
    }
}

#[test]
fn a_member_can_be_trained_again_alone() {
    let (arch, settings) = small(4);
    let images = [toy(64, 0)];
    let starts: Vec<MemberWeights> = (0..3).map(|seed| MemberWeights::initialise(&arch, seed)).collect();
    let all = on_threads(2, || {
        train_members(Trainer::Cpu, 2, &arch, &starts, &images, &settings, "s", &|_, _, _| true).unwrap()
    });
    let alone =
        train_member(Trainer::Cpu, &arch, &starts[2], &images, &settings, member_seed("s", 2), &|_, _| true).unwrap();
    assert_eq!(all[2], alone);
    assert_ne!(all[0].losses, all[1].losses);
}

#[test]
fn every_cycle_ends_in_a_member() {
    let (arch, settings) = small(6);
    let start = MemberWeights::initialise(&arch, 1);
    let train = |iterations, snapshots| {
        let settings = Training { iterations, snapshots, ..settings.clone() };
        train_member(Trainer::Cpu, &arch, &start, &[toy(64, 0)], &settings, 9, &|_, _| true).unwrap()
    };
    let (all, first) = (train(6, 3), train(2, 1));
    assert_eq!((all.earlier.len(), first.earlier.len()), (2, 0));
    assert_eq!(all.earlier[0], first.weights);
    assert!(all.earlier[1] != all.earlier[0] && all.weights != all.earlier[1]);
}

#[test]
fn it_learns_discs() {
    let (arch, settings) = small(60);
    let start = MemberWeights::initialise(&arch, 2);
    for trainer in trainers() {
        let trained = train_member(trainer, &arch, &start, &[toy(96, 0)], &settings, 4, &|_, _| true).unwrap();
        let mean = |l: &[f32]| l.iter().sum::<f32>() / l.len() as f32;
        let (first, last) = (mean(&trained.losses[..6]), mean(&trained.losses[54..]));
        assert!(last < first - 0.5, "loss {first} to {last}");
        // Inference with the running statistics finds discs that it has not seen.
        let test = toy(64, 11);
        let predictor = Predictor::of_members(&arch, &[trained.weights]);
        let p = predicted(&predictor, 0, std::slice::from_ref(&test.image));
        let right = (0..64 * 64).filter(|&i| (p[64 * 64 + i] > 0.5) == (test.labels.as_raw()[i] == 1)).count();
        assert!(right > 64 * 64 * 9 / 10, "{trainer:?}: {right} of 4096 pixels are right");
    }
}

#[test]
fn frozen_statistics_stay_and_everything_else_moves() {
    let (arch, mut settings) = small(3);
    // The coarsest head has weight 0; without deep supervision no lower head would learn.
    let start = MemberWeights::initialise(&arch, 2);
    for trainer in trainers() {
        settings.freeze_norm_statistics = true;
        let trained = train_member(trainer, &arch, &start, &[toy(64, 0)], &settings, 4, &|_, _| true).unwrap().weights;
        for (name, tensor) in trained.iter() {
            let same = start.get(name) == Some(tensor);
            let expected = name.contains("running") || name == "decoder.seg_layers.0.bias";
            assert_eq!(same, expected, "{name}");
        }
        settings.freeze_norm_statistics = false;
        let moved = train_member(trainer, &arch, &start, &[toy(64, 0)], &settings, 4, &|_, _| true).unwrap().weights;
        assert!(moved.iter().all(|(name, t)| !name.contains("running") || start.get(name) != Some(t)));
    }
}

#[test]
fn what_cannot_be_trained_is_said() {
    let (arch, settings) = small(3);
    let start = MemberWeights::initialise(&arch, 2);
    let fail = |arch: &Architecture, images: &[TrainingImage], settings: &Training| {
        train_member(Trainer::Cpu, arch, &start, images, settings, 1, &|_, _| true).unwrap_err().to_string()
    };
    let good = toy(40, 0);
    let unlabelled = TrainingImage { labels: GrayImage::from_pixel(40, 40, Luma([UNLABELLED])), ..good.clone() };
    let foreign = TrainingImage { labels: GrayImage::from_pixel(40, 40, Luma([2])), ..good.clone() };
    let narrow = TrainingImage { labels: GrayImage::new(39, 40), ..good.clone() };
    let one = std::slice::from_ref;
    assert!(fail(&arch, &[], &settings).contains("none of the 0"));
    assert!(fail(&arch, one(&unlabelled), &settings).contains("none of the 1"));
    assert!(fail(&arch, one(&foreign), &settings).contains("label 2; labels are 0 to 1"));
    assert!(fail(&arch, one(&narrow), &settings).contains("must be of one size"));
    assert!(fail(&arch, one(&good), &Training { patch_px: 30, ..settings.clone() }).contains("multiple of 4"));
    assert!(fail(&Architecture::plain(2, 8, 3), one(&good), &settings).contains("start weights"));
    let wild = Training { weight_decay: 1e30, clip_norm: f64::MAX, iterations: 40, ..settings.clone() };
    let diverged = train_member(Trainer::Cpu, &arch, &start, one(&good), &wild, 1, &|_, _| true).unwrap_err();
    assert!(matches!(diverged, TrainingError::Diverged { .. }), "{diverged}");
    let stopped = train_member(Trainer::Cpu, &arch, &start, one(&good), &settings, 1, &|step, _| step < 2).unwrap_err();
    assert!(matches!(stopped, TrainingError::Stopped(2)));
    let estimating = Training { norm_statistics_batches: 1000, iterations: 1, ..settings };
    let asked = AtomicU32::new(0);
    let third = |_: u32, _: f32| asked.fetch_add(1, Ordering::Relaxed) < 2;
    let stopped = train_member(Trainer::Cpu, &arch, &start, one(&good), &estimating, 1, &third).unwrap_err();
    assert!(matches!(stopped, TrainingError::Stopped(1)));
    assert_eq!(asked.into_inner(), 3, "stopped among the batches of statistics");
}

#[test]
fn jobs_keep_their_order_and_never_are_more_at_once() {
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let job = |&number: &u32| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::yield_now();
        now.fetch_sub(1, Ordering::SeqCst);
        number * 2
    };
    let jobs: Vec<u32> = (0..50).collect();
    for at_once in [0, 1, 3, 100] {
        most.store(0, Ordering::SeqCst);
        assert_eq!(side_by_side(&jobs, at_once, job), (0..100).step_by(2).collect::<Vec<u32>>());
        assert!(most.load(Ordering::SeqCst) <= at_once.max(1));
    }
}
