//! Engines against each other, and what is said where one is missing.

use std::sync::atomic::{AtomicUsize, Ordering};

use consilium_common::plan::{Architecture, Encoder, Norm};
use image::{Rgb, RgbImage};

use super::*;
use crate::network::{EnsembleForm, InputScale, WeightTensor, random};
use crate::testing::{onnx_is_there, predicted};

fn tile(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([x * 37 + y * 11 + seed, x * y + 3 * seed, y * 23 + (x / 5) * seed].map(|v| (v % 256) as u8))
    })
}

/// Weights whose norms and biases are not those of a fresh network.
fn worn(arch: &Architecture, seed: u64) -> MemberWeights {
    let mut rng = random::rng(&format!("worn {seed}"));
    let fresh = MemberWeights::initialise(arch, seed);
    let tensors = fresh.iter().map(|(name, t)| {
        let wear = |v: &f32| if t.shape.len() == 1 { v + random::between(&mut rng, 0.0, 0.5) } else { *v };
        (name.to_owned(), WeightTensor { shape: t.shape.clone(), values: t.values.iter().map(wear).collect() })
    });
    MemberWeights::from_tensors(tensors.collect())
}

/// Plain, residual, instance norm, no biases, and uneven in every way.
fn architectures() -> Vec<(&'static str, Architecture)> {
    let plain = Architecture::plain(2, 8, 4);
    let uneven = Architecture {
        classes: 3,
        features: vec![6, 10, 7],
        strides: vec![1, 2, 4],
        convs: vec![1, 3, 2],
        decoder_convs: vec![1, 2],
        ..plain.clone()
    };
    let residual = Architecture {
        encoder: Encoder::Residual,
        features: vec![6, 6, 10, 10],
        strides: vec![1, 1, 2, 2],
        convs: vec![1, 2, 1, 2],
        decoder_convs: vec![1; 3],
        ..plain.clone()
    };
    vec![
        ("residual with instance norm", Architecture { norm: Norm::Instance, ..residual.clone() }),
        ("residual", residual),
        ("instance norm", Architecture { norm: Norm::Instance, ..plain.clone() }),
        ("without bias", Architecture { bias: false, ..plain.clone() }),
        ("uneven", uneven),
        ("batch norm", plain),
    ]
}

#[test]
fn other_engines_give_the_probabilities_of_the_cpu() {
    let mut devices = Vec::new();
    if onnx_is_there() {
        devices.push(Device::Onnx);
    }
    if cfg!(feature = "libtorch") {
        devices.push(Device::Libtorch(Precision::Fp32));
    }
    for device in devices {
        agrees_with_the_cpu(device);
    }
}

/// How far two answers are apart: at worst, and the root of the mean square. A last bit becomes 4e-6 to 1.1e-5 where a
/// probability is steep, by the instructions that the processor has, and 6e-7 in the mean; a wrong edge or layer far more.
fn apart(a: &[f32], b: &[f32]) -> (f64, f64) {
    let apart = || a.iter().zip(b).map(|(a, b)| f64::from(a - b).abs());
    let squares: f64 = apart().map(|v| v * v).sum();
    (apart().fold(0.0, f64::max), (squares / a.len() as f64).sqrt())
}

fn agrees_with_the_cpu(device: Device) {
    for (what, arch) in architectures() {
        let members = [worn(&arch, 1), worn(&arch, 2)];
        let cpu = open_members(Device::Cpu, &arch, &members, 64).unwrap();
        let other = open_members(device, &arch, &members, 64).unwrap();
        let (cpu, other) = (cpu.predictor(), other.predictor());
        assert_eq!((other.members(), other.classes()), (2, arch.classes));
        assert_eq!(other.form(), cpu.form());
        // Statistics of the two deepest pixels of a tile that small would make much of the last bit.
        let smallest = if arch.norm == Norm::Instance { (33, 40) } else { (1, 13) };
        for (width, height) in [(64, 64), (96, 64), (45, 70), smallest] {
            let tiles = [tile(width, height, 0), tile(width, height, 7), tile(width, height, 91)];
            for member in 0..2 {
                let (a, b) = (predicted(cpu, member, &tiles), predicted(other, member, &tiles));
                assert_eq!(a.len(), b.len());
                let (worst, rms) = apart(&a, &b);
                assert!(
                    worst < 1e-4 && rms < 2e-6,
                    "{device}, {what}, {width} x {height}, member {member}: {worst:e} at worst, {rms:e} in the mean"
                );
                // A tile's answer depends neither on its neighbours nor on what the memory held.
                let one = arch.classes * (width * height) as usize;
                let mut alone = vec![f32::NAN; 17];
                other.predict(member, &tiles[1..2], &InputScale::RGB_TO_01, &mut alone).unwrap();
                assert!(alone == b[one..2 * one], "{device}, {what}, {width} x {height}: alone and among others");
            }
        }
    }
}

#[test]
fn an_engine_answers_for_what_it_cannot_do() {
    let arch = Architecture::plain(2, 4, 2);
    let members = [worn(&arch, 3)];
    if !onnx_is_there() {
        let error = open_members(Device::Onnx, &arch, &members, 32).unwrap_err();
        assert!(matches!(error, EngineError::Library(_)), "{error}");
        return;
    }
    let onnx = open_members(Device::Onnx, &arch, &members, 32).unwrap();
    let onnx = onnx.predictor();
    let missing = onnx.predict(1, &[tile(32, 32, 0)], &InputScale::RGB_TO_01, &mut Vec::new()).unwrap_err();
    assert_eq!(missing, EngineError::NoSuchMember { member: 1, members: 1 });
    let mut out = vec![1.0; 5];
    onnx.predict(0, &[], &InputScale::RGB_TO_01, &mut out).unwrap();
    assert!(out.is_empty());
    // Weights of another architecture: an error, and the engine goes on.
    let foreign = [MemberWeights::initialise(&Architecture::plain(2, 8, 2), 0)];
    let error = open_members(Device::Onnx, &arch, &foreign, 32).unwrap_err();
    assert!(matches!(error, EngineError::Prepare { member: 0, .. }), "{error}");
    assert_eq!(predicted(onnx, 0, &[tile(32, 32, 0)]).len(), 2 * 32 * 32);
}

#[test]
fn a_card_that_is_not_there_is_an_error() {
    let arch = Architecture::plain(2, 4, 2);
    let error = open_members(Device::Cuda(63, Precision::Fp32), &arch, &[worn(&arch, 3)], 32).unwrap_err();
    let message = error.to_string();
    assert!(
        !message.contains('\n') && message.contains("deploy/onnxruntime.sh") || message.contains("cuda:63"),
        "{message}"
    );
}

#[test]
fn auto_always_opens_and_says_why() {
    let arch = Architecture::plain(2, 4, 2);
    let engine = open_members(Device::Auto, &arch, &[worn(&arch, 3)], 32).unwrap();
    match onnx_library() {
        Ok(info) => assert!(engine.why().contains(&info.version), "{}", engine.why()),
        Err(why) => assert!(engine.name() == "cpu" && engine.why().contains(&why.to_string()), "{}", engine.why()),
    }
    assert!(engine.why().starts_with(engine.name()) && engine.why().contains("auto"), "{}", engine.why());
    let cpu = open_members(Device::Cpu, &arch, &[worn(&arch, 3)], 32).unwrap();
    assert_eq!((cpu.name(), cpu.why()), ("cpu", "cpu: our own kernels, for cpu was asked for"));
}

#[test]
fn auto_takes_the_next_best() {
    let engine = |name: &str| Engine {
        name: name.into(),
        why: "a test".into(),
        predictor: Box::new(Predictor::of_members(&Architecture::plain(2, 4, 2), &[])),
    };
    let nothing = || EngineError::Run { engine: "onnx".into(), member: 0, why: "no driver".into() };
    let no_cuda = || EngineError::NoCuda { path: "here".into(), version: "1".into() };
    let cpu = |why: String| engine("cpu").because(why);
    let none = || Err(EngineError::NotBuilt);
    let chosen = automatic(|| Ok(engine("libtorch on cuda:0")), |_| Ok(engine("onnx")), cpu);
    assert_eq!(chosen.name(), "libtorch on cuda:0");
    let chosen = automatic(none, |_| Ok(engine("onnx on cuda:0")), cpu);
    assert_eq!(chosen.name(), "onnx on cuda:0");
    for (card, said) in [(nothing(), true), (no_cuda(), false)] {
        let onnx = |place| if place == Place::Processor { Ok(engine("onnx")) } else { Err(card.clone()) };
        let chosen = automatic(none, onnx, cpu);
        assert_eq!((chosen.name(), chosen.why().contains("no driver")), ("onnx", said), "{}", chosen.why());
    }
    let chosen = automatic(none, |_| Err(nothing()), cpu);
    assert!(chosen.name() == "cpu" && chosen.why().contains("no driver"), "{}", chosen.why());
}

/// Counts how many members are computed at the same time.
#[derive(Default)]
struct Counting {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl TilePredictor for Counting {
    fn form(&self) -> EnsembleForm {
        EnsembleForm { members: 5, classes: 2, total_stride: 1, conventions: Conventions::default() }
    }

    fn at_once(&self) -> usize {
        2
    }

    fn predict(&self, member: usize, _: &[RgbImage], _: &InputScale, out: &mut Vec<f32>) -> Result<(), EngineError> {
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::yield_now();
        *out = vec![member as f32];
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn members_run_side_by_side_as_many_as_the_engine_says() {
    let engine = Counting::default();
    let mut outputs = vec![Vec::new(); 5];
    for _ in 0..20 {
        predict_all(&engine, &[], &InputScale::RGB_TO_01, &mut outputs).unwrap();
    }
    assert_eq!(outputs.concat(), [0.0, 1.0, 2.0, 3.0, 4.0]);
    assert!(engine.most.load(Ordering::SeqCst) <= 2);
}

#[test]
fn the_survey_names_every_engine() {
    let survey = survey();
    assert_eq!(
        survey.iter().map(|s| s.device).collect::<Vec<_>>(),
        [Device::Cpu, Device::Onnx, Device::Libtorch(Precision::Fp32), Device::Cuda(0, Precision::Fp32)]
    );
    assert!(survey[0].there);
    assert_eq!(survey[1].there, onnx_library().is_ok());
    for state in &survey {
        assert!(!state.about.is_empty() && !state.about.contains('\n'), "{}", state.about);
        assert!(
            state.there || state.about.contains("run deploy/") || state.about.contains("deploy/libtorch.sh"),
            "{}",
            state.about
        );
    }
}

#[test]
fn speed_is_a_number_of_tiles() {
    let arch = Architecture::plain(2, 4, 2);
    let cpu = open_members(Device::Cpu, &arch, &[worn(&arch, 3), worn(&arch, 4)], 16).unwrap();
    let speed = speed(cpu.predictor(), 16, 0.0).unwrap();
    assert!(speed.is_finite() && speed > 0.0, "{speed}");
}
