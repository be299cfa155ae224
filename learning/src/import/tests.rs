//! Plans of every form, what is refused, and the way out and back in again.

use std::fs;
use std::path::Path;

use consilium_common::bundle::{Averaging, Conventions, Normalisation, Padding, Provenance};
use consilium_common::plan::{Architecture, Encoder, Norm, Task};
use consilium_common::{Digest, GenerationNumber, Mpp};
use serde_json::{Value as Json, json};

use super::*;
use crate::network::{Ensemble, WeightTensor};

/// Weights that differ everywhere.
fn member(arch: &Architecture, seed: u64) -> MemberWeights {
    let fresh = MemberWeights::initialise(arch, seed);
    let tensors = fresh.iter().enumerate().map(|(index, (name, tensor))| {
        let value = |(i, v): (usize, &f32)| v + 0.01 * (1 + index + i % 7) as f32;
        let values = tensor.values.iter().enumerate().map(value).collect();
        (name.to_owned(), WeightTensor { shape: tensor.shape.clone(), values })
    });
    MemberWeights::from_tensors(tensors.collect())
}

fn ensemble(dir: &Path, arch: &Architecture, conventions: Conventions) -> Ensemble {
    let task = Task { classes: vec!["glass".into(), "nucleus".into()], spacing_um: Mpp::new(0.5).unwrap() };
    let provenance =
        Provenance { study: None, plan: Digest::of(b"p"), round: None, parent: None, contributions: Vec::new() };
    let members = [member(arch, 1), member(arch, 2)];
    Ensemble::save_as(dir, &task, arch, &members, conventions, provenance, GenerationNumber(0)).unwrap();
    Ensemble::load(dir).unwrap()
}

const V2: Conventions =
    Conventions { normalisation: Normalisation::ZScore, averaging: Averaging::Logits, padding: Padding::Zero };

fn request(dir: &Path) -> Request {
    Request { dir: dir.to_owned(), ..Request::default() }
}

#[test]
fn what_is_exported_is_imported_again() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Architecture::plain(2, 3, 3);
    let residual = Architecture {
        encoder: Encoder::Residual,
        features: vec![3, 3, 6, 6],
        strides: vec![1, 2, 1, 2],
        convs: vec![1, 2, 1, 1],
        decoder_convs: vec![1, 2, 1],
        norm: Norm::Instance,
        ..plain.clone()
    };
    let unbiased = Architecture { bias: false, head_bias: Some(true), ..plain.clone() };
    for (number, arch) in [plain, residual, unbiased].into_iter().enumerate() {
        let ours = ensemble(&folder.path().join(format!("bundle-{number}")), &arch, V2);
        let dir = folder.path().join(format!("nnunet-{number}"));
        export_nnunet_v2(&ours, 64, &dir).unwrap();
        let back = nnunet_v2(&request(&dir)).unwrap();
        assert_eq!((&back.architecture, &back.members), (&arch, &ours.members));
        assert_eq!((back.conventions, back.patch_px), (V2, (64, 64)));
        assert_eq!((&back.classes, &back.folds), (&ours.manifest.task.classes, &vec!["0".to_owned(), "1".to_owned()]));
        let one = Request { folds: vec!["1".into()], ..request(&dir) };
        assert_eq!(nnunet_v2(&one).unwrap().members, ours.members[1..]);
    }
}

#[test]
fn a_bias_that_only_nnunet_has_is_zero_there() {
    let folder = tempfile::tempdir().unwrap();
    let arch = Architecture { up_bias: Some(false), head_bias: Some(false), ..Architecture::plain(2, 3, 2) };
    let ours = ensemble(&folder.path().join("bundle"), &arch, Conventions::default());
    let dir = folder.path().join("nnunet");
    assert!(export_nnunet_v2(&ours, 64, &dir).unwrap()[0].contains("averages logits"));
    let back = nnunet_v2(&request(&dir)).unwrap();
    for (name, tensor) in ours.members[0].iter() {
        assert_eq!(back.members[0].get(name), Some(tensor), "{name}");
    }
    assert_eq!(back.members[0].get("decoder.seg_layers.0.bias").unwrap().values, [0.0; 2]);
    let impossible = Architecture { bias: false, up_bias: Some(true), ..arch };
    let ours = ensemble(&folder.path().join("other"), &impossible, Conventions::default());
    let refused = export_nnunet_v2(&ours, 64, &folder.path().join("never")).unwrap_err();
    assert!(refused.to_string().contains("transposed convolutions"), "{refused}");
    assert!(!folder.path().join("never").exists());
}

/// Changes one of the documents of an exported ensemble and imports it.
fn changed(file: &str, change: impl FnOnce(&mut Json)) -> Result<Imported, ImportError> {
    let folder = tempfile::tempdir().unwrap();
    let ours = ensemble(&folder.path().join("bundle"), &Architecture::plain(2, 3, 3), V2);
    let dir = folder.path().join("T__P__2d");
    export_nnunet_v2(&ours, 64, &dir).unwrap();
    let path = dir.join(file);
    let mut document: Json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut document);
    fs::write(&path, document.to_string()).unwrap();
    nnunet_v2(&request(&dir))
}

#[test]
fn what_is_not_computed_here_is_refused_by_name() {
    let arguments = |plans: &mut Json, key: &str, value: Json| {
        plans["configurations"]["2d"]["architecture"]["arch_kwargs"][key] = value;
    };
    let configuration = |plans: &mut Json, key: &str, value: Json| plans["configurations"]["2d"][key] = value;
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Json), &'a str);
    let cases: [Change<'_>; 16] = [
        ("plans.json", &|p| arguments(p, "conv_op", json!("torch.nn.modules.conv.Conv3d")), "a network of Conv3d"),
        ("plans.json", &|p| arguments(p, "kernel_sizes", json!([[3, 3], [3, 3], [5, 5]])), "a convolution of 5x5"),
        ("plans.json", &|p| arguments(p, "strides", json!([[1, 1], [2, 2], [2, 1]])), "unequal sides"),
        ("plans.json", &|p| arguments(p, "strides", json!([[1, 1, 1], [2, 2, 2]])), "3D network"),
        ("plans.json", &|p| arguments(p, "nonlin", json!("torch.nn.ReLU")), "the activation ReLU"),
        ("plans.json", &|p| arguments(p, "nonlin_kwargs", json!({"negative_slope": 0.2})), "slope 0.2"),
        ("plans.json", &|p| arguments(p, "norm_op_kwargs", json!({"eps": 1e-3, "affine": true})), "normalisation of"),
        ("plans.json", &|p| arguments(p, "features_per_stage", json!([3, "x"])), "`features_per_stage` is no list"),
        ("plans.json", &|p| configuration(p, "patch_size", json!([64, 64, 64])), "3D configuration"),
        ("plans.json", &|p| configuration(p, "previous_stage", json!("3d_lowres")), "cascade"),
        ("plans.json", &|p| configuration(p, "normalization_schemes", json!(["CTNormalization"])), "1 channels"),
        ("plans.json", &|p| configuration(p, "use_mask_for_norm", json!([true, true, true])), "under a mask"),
        ("plans.json", &|p| *p = json!({"plans_name": "x"}), "`configurations` is missing"),
        ("dataset.json", &|d| d["regions_class_order"] = json!([1]), "regions"),
        ("dataset.json", &|d| d["labels"]["whole"] = json!([1, 2]), "the region `whole`"),
        ("dataset.json", &|d| d["labels"]["third"] = json!(7), "not 0, 1, 2"),
    ];
    for (file, change, expected) in cases {
        let refused = changed(file, change).unwrap_err().to_string();
        assert!(refused.contains(expected) && refused.contains(file), "{refused}");
    }
    let more = changed("dataset.json", |d| d["labels"]["third"] = json!(2)).unwrap_err().to_string();
    assert!(more.contains("`decoder.seg_layers.0.bias` is [2] and should be [3]"), "{more}");
}

#[test]
fn older_and_shorter_forms_of_plans_are_understood() {
    let expected = Architecture::plain(2, 3, 3);
    let old = changed("plans.json", |plans| {
        let two_d = &mut plans["configurations"]["2d"];
        two_d.as_object_mut().unwrap().remove("architecture");
        for (key, value) in [
            ("UNet_class_name", json!("PlainConvUNet")),
            ("UNet_base_num_features", json!(3)),
            ("unet_max_num_features", json!(512)),
            ("n_conv_per_stage_encoder", json!([2, 2, 2])),
            ("n_conv_per_stage_decoder", json!([2, 2])),
            ("pool_op_kernel_sizes", json!([[1, 1], [2, 2], [2, 2]])),
            ("conv_kernel_sizes", json!([[3, 3], [3, 3], [3, 3]])),
        ] {
            two_d[key] = value;
        }
    });
    assert_eq!(old.unwrap().architecture, expected);
    let short = changed("plans.json", |plans| {
        let inherited = plans["configurations"]["2d"].take();
        plans["configurations"]["base"] = inherited;
        plans["configurations"]["2d"] = json!({"inherits_from": "base", "patch_size": [32, 64]});
        let arguments = &mut plans["configurations"]["base"]["architecture"]["arch_kwargs"];
        arguments["kernel_sizes"] = json!(3);
        arguments["n_conv_per_stage"] = json!(2);
        arguments["n_conv_per_stage_decoder"] = json!(2);
        arguments["strides"] = json!([1, 2, 2]);
        // The trainer puts batch normalisation in its place: the weights tell.
        arguments["norm_op"] = json!("torch.nn.modules.instancenorm.InstanceNorm2d");
    });
    let short = short.unwrap();
    assert_eq!((short.architecture, short.patch_px), (expected, (64, 32)));
    let ignored = changed("dataset.json", |data| data["labels"]["ignore"] = json!(2)).unwrap();
    assert_eq!(ignored.classes.len(), 2);
    assert!(ignored.notes.iter().any(|note| note.contains("ignore")));
}

#[test]
fn what_is_missing_is_named_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let none = nnunet_v2(&request(folder.path())).unwrap_err().to_string();
    assert!(none.contains("plans.json is not there; give the folder of one trained configuration"), "{none}");
    let none = nnunet_v1(&request(folder.path())).unwrap_err().to_string();
    assert!(none.contains("model_final_checkpoint.model is not there"), "{none}");
    let ours = ensemble(&folder.path().join("bundle"), &Architecture::plain(2, 3, 2), V2);
    let dir = folder.path().join("n");
    export_nnunet_v2(&ours, 64, &dir).unwrap();
    let again = export_nnunet_v2(&ours, 64, &dir).unwrap_err().to_string();
    assert!(again.contains("give a folder that does not exist yet"), "{again}");
    let other = Request { folds: vec!["0".into(), "4".into()], ..request(&dir) };
    let missing = nnunet_v2(&other).unwrap_err().to_string();
    assert!(missing.contains("fold_4") && missing.contains("--folds"), "{missing}");
    fs::write(dir.join("fold_1/checkpoint_final.pth"), b"PK\x03\x04 and no more").unwrap();
    assert!(matches!(nnunet_v2(&request(&dir)), Err(ImportError::Checkpoint(_))));
}
