//! Files, deltas, bundles, and the agreement of training and inference.

use std::collections::BTreeMap;

use consilium_common::bundle::Provenance;
use consilium_common::plan::{Architecture, Encoder, Norm, Task};
use consilium_common::{Digest, GenerationNumber, Mpp};
use image::{Rgb, RgbImage};
use safetensors::tensor::{Dtype, TensorView};

use super::net::Network;
use super::norm::Mode;
use super::planes::Grid;
use super::*;
use crate::testing::predicted;

fn arch() -> Architecture {
    Architecture::plain(3, 4, 3)
}

fn tile(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 37 + y * 11) as u8, (x * y) as u8, (y * 23) as u8]))
}

fn task() -> Task {
    Task { classes: ["glass", "benign", "tumour"].map(String::from).to_vec(), spacing_um: Mpp::new(2.0).unwrap() }
}

fn provenance() -> Provenance {
    Provenance { study: None, plan: Digest::of(b"plan"), round: None, parent: None, contributions: Vec::new() }
}

/// A member file with one change to its tensors.
fn file_with(change: impl FnOnce(&mut BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>)) -> Vec<u8> {
    let weights = MemberWeights::initialise(&arch(), 1);
    let bytes = |t: &WeightTensor| t.values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> =
        weights.iter().map(|(name, t)| (name.to_owned(), (Dtype::F32, t.shape.clone(), bytes(t)))).collect();
    change(&mut tensors);
    let views =
        tensors.iter().map(|(n, (dtype, shape, data))| (n, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn initial_weights_are_he_normal_and_repeatable() {
    let arch = Architecture::plain(2, 16, 4);
    let weights = MemberWeights::initialise(&arch, 7);
    assert_eq!(weights, MemberWeights::initialise(&arch, 7));
    assert_ne!(weights, MemberWeights::initialise(&arch, 8));
    assert!(weights.fits(&arch));
    for (name, fan_in) in
        [("encoder.stages.3.0.convs.1.conv.weight", 128 * 9), ("decoder.transpconvs.0.weight", 64 * 4)]
    {
        let values = &weights.get(name).unwrap().values;
        let spread = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        let expected = (2.0 / 1.0001 / fan_in as f32).sqrt();
        assert!((spread / expected - 1.0).abs() < 0.02, "{name}: {spread} against {expected}");
    }
    assert!(weights.get("encoder.stages.0.0.convs.0.norm.running_var").unwrap().values.iter().all(|v| *v == 1.0));
}

#[test]
fn bytes_round_trip_and_do_not_vary() {
    let weights = MemberWeights::initialise(&arch(), 3);
    let bytes = weights.to_bytes().unwrap();
    assert_eq!(MemberWeights::from_bytes(&bytes, &arch()).unwrap(), weights);
    assert_eq!(weights.clone().to_bytes().unwrap(), bytes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/member.safetensors");
    weights.write(&path).unwrap();
    assert_eq!(MemberWeights::read(&path, &arch()).unwrap(), weights);
}

#[test]
fn delta_and_base_give_the_weights_back() {
    let (base, other) = (MemberWeights::initialise(&arch(), 1), MemberWeights::initialise(&arch(), 2));
    let back = base.plus(&other.delta_from(&base));
    for ((_, a), (name, b)) in back.iter().zip(other.iter()) {
        assert!(a.values.iter().zip(&b.values).all(|(a, b)| (a - b).abs() < 1e-6), "{name}");
    }
    assert!(base.delta_from(&base).iter().all(|(_, t)| t.values.iter().all(|v| *v == 0.0)));
    // A delta is a member file too.
    let delta = other.delta_from(&base);
    assert_eq!(MemberWeights::from_bytes(&delta.to_bytes().unwrap(), &arch()).unwrap(), delta);
}

#[test]
fn a_wrong_member_file_is_refused_in_one_sentence() {
    let head = "decoder.seg_layers.1.bias";
    let nan = f32::NAN.to_le_bytes().repeat(3);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "only 0 bytes"),
        (vec![0xff; 64], "header claims"),
        (file_with(|t| drop(t.remove(head))), "has no tensor `decoder.seg_layers.1.bias`"),
        (
            file_with(|t| drop(t.insert("extra".into(), (Dtype::F32, vec![1], vec![0; 4])))),
            "`extra` that the architecture",
        ),
        (
            file_with(|t| drop(t.insert(head.into(), (Dtype::F32, vec![2], vec![0; 8])))),
            "F32 [2], the architecture needs F32 [3]",
        ),
        (file_with(|t| drop(t.insert(head.into(), (Dtype::F16, vec![3], vec![0; 6])))), "F16 [3]"),
        (file_with(|t| drop(t.insert(head.into(), (Dtype::F32, vec![3], nan)))), "holds NaN"),
    ];
    for (bytes, part) in cases {
        let message = MemberWeights::from_bytes(&bytes, &arch()).unwrap_err().to_string();
        assert!(message.contains(part) && !message.contains('\n'), "{message} lacks {part}");
    }
    let tracked = ("encoder.stages.0.0.convs.0.norm.num_batches_tracked".to_owned(), (Dtype::I64, vec![], vec![0; 8]));
    assert!(MemberWeights::from_bytes(&file_with(|t| drop(t.insert(tracked.0, tracked.1))), &arch()).is_ok());
}

#[test]
fn a_bundle_round_trips_and_a_changed_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let members: Vec<MemberWeights> = (0..3).map(|seed| MemberWeights::initialise(&arch(), seed)).collect();
    let save = || Ensemble::save(folder.path(), &task(), &arch(), &members, provenance(), GenerationNumber(4)).unwrap();
    let manifest = save();
    assert_eq!(manifest, save());
    let loaded = Ensemble::load(folder.path()).unwrap();
    assert_eq!((&loaded.manifest, &loaded.members), (&manifest, &members));

    let member = folder.path().join("member-1.safetensors");
    let mut bytes = std::fs::read(&member).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&member, &bytes).unwrap();
    let message = Ensemble::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("member-1.safetensors") && message.contains("digest"), "{message}");
    bytes.pop();
    std::fs::write(&member, &bytes).unwrap();
    assert!(Ensemble::load(folder.path()).unwrap_err().to_string().contains("bytes, not"));
    std::fs::remove_file(&member).unwrap();
    assert!(Ensemble::load(folder.path()).unwrap_err().to_string().contains("cannot read"));
    assert!(Ensemble::load(&folder.path().join("none")).unwrap_err().to_string().contains("ensemble.json"));
}

#[test]
fn a_bundle_of_foreign_weights_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = [MemberWeights::initialise(&Architecture::plain(2, 4, 3), 0)];
    assert!(Ensemble::save(folder.path(), &task(), &arch(), &foreign, provenance(), GenerationNumber(0)).is_err());
    assert!(!folder.path().join("ensemble.json").exists());
}

/// Weights whose norms are not trivial.
fn worn(arch: &Architecture) -> MemberWeights {
    let mut rng = random::rng("worn");
    let fresh = MemberWeights::initialise(arch, 5);
    let tensors = fresh.iter().map(|(name, t)| {
        let wear = |v: &f32| if t.shape.len() == 1 { v + random::between(&mut rng, 0.0, 0.5) } else { *v };
        (name.to_owned(), WeightTensor { shape: t.shape.clone(), values: t.values.iter().map(wear).collect() })
    });
    MemberWeights::from_tensors(tensors.collect())
}

#[test]
fn inference_is_the_forward_pass_with_frozen_statistics() {
    let kinds = [Encoder::Plain, Encoder::Residual].into_iter();
    for (encoder, norm) in kinds.flat_map(|kind| [(kind, Norm::Batch), (kind, Norm::Instance)]) {
        let arch = Architecture { norm, encoder, up_bias: Some(false), ..arch() };
        let weights = worn(&arch);
        let image = tile(24, 16);
        let predictor = Predictor::of_members(&arch, std::slice::from_ref(&weights));
        let folded = predictor.logits(0, std::slice::from_ref(&image), &InputScale::RGB_TO_01);
        let mut network = Network::from_weights(&arch, &weights);
        let plane = 24 * 16;
        let x: Vec<f32> =
            (0..3 * plane).map(|i| f32::from(image.as_raw()[3 * (i % plane) + i / plane]) / 255.0).collect();
        let mode = if norm == Norm::Batch { Mode::Frozen } else { Mode::Image };
        let (_, levels) = network.forward(&x, 1, Grid::new(16, 24), mode, |above| above == 0);
        let plain = &levels[0].logits;
        assert_eq!(plain.len(), folded.len());
        let worst = plain.iter().zip(&folded).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let largest = plain.iter().fold(10.0, |most: f32, v| most.max(v.abs()));
        assert!(worst < 1e-5 * largest, "{encoder:?} {norm:?}: {worst} of {largest}");
        assert_eq!(network.to_weights(), weights);
    }
}

#[test]
fn probabilities_sum_to_one_for_tiles_of_any_size() {
    let members = [worn(&arch()), MemberWeights::initialise(&arch(), 9)];
    let predictor = Predictor::of_members(&arch(), &members);
    let EnsembleForm { members, classes, total_stride, .. } = predictor.form();
    assert_eq!((members, classes, total_stride), (2, 3, 4));
    for (width, height) in [(16, 16), (13, 7), (1, 30)] {
        let tiles = [tile(width, height), tile(width, height)];
        let p = predicted(&predictor, 1, &tiles);
        let pixels = (width * height) as usize;
        assert_eq!(p.len(), 2 * 3 * pixels);
        assert_eq!(p[..3 * pixels], p[3 * pixels..]);
        for length in [3, 10_000] {
            let mut used = vec![f32::NAN; length];
            predictor.predict(1, &tiles, &InputScale::RGB_TO_01, &mut used);
            assert!(used == p, "in memory that held {length} other values");
        }
        for i in 0..pixels {
            let sum: f32 = (0..3).map(|c| p[c * pixels + i]).sum();
            assert!((sum - 1.0).abs() < 1e-5);
        }
    }
}
