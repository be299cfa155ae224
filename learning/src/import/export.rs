//! An ensemble as nnU-Net v2 keeps its own: plans, description of the data and a checkpoint for each fold, from which
//! nnU-Net predicts.

use std::path::Path;
use std::{fs, io};

use consilium_common::bundle::{Averaging, EnsembleManifest, Normalisation};
use consilium_common::plan::{Architecture, Encoder, Norm};
use serde_json::{Value as Json, json};

use super::ImportError;
use crate::checkpoint::{Item, Stored, write_checkpoint};
use crate::network::{Ensemble, MemberWeights};

/// What an export leaves to say, one sentence each.
pub type Notes = Vec<String>;

/// Writes the ensemble as a trained configuration of nnU-Net v2 into a folder that does not exist yet; `patch_px` is the
/// side of the tiles that nnU-Net will take.
///
/// # Errors
/// A network that nnU-Net v2 has no plans for, or a folder that cannot be written.
pub fn export_nnunet_v2(ensemble: &Ensemble, patch_px: u32, dir: &Path) -> Result<Notes, ImportError> {
    let (manifest, arch) = (&ensemble.manifest, &ensemble.manifest.architecture);
    if !arch.bias && arch.up_bias == Some(true) {
        return Err(ImportError::unsupported(dir, "a network whose transposed convolutions alone have a bias"));
    }
    fs::create_dir(dir).map_err(|e| ImportError::write(dir, e))?;
    write_json(&dir.join("plans.json"), &plans(manifest, patch_px))?;
    write_json(&dir.join("dataset.json"), &dataset(manifest))?;
    for (number, member) in ensemble.members.iter().enumerate() {
        let fold = dir.join(format!("fold_{number}"));
        fs::create_dir(&fold).map_err(|e| ImportError::write(&fold, e))?;
        write_member(&fold.join("checkpoint_final.pth"), arch, member, number)?;
    }
    Ok(notes(manifest))
}

fn notes(manifest: &EnsembleManifest) -> Notes {
    let mut notes = Vec::new();
    if manifest.averaging == Averaging::Probabilities {
        notes.push("nnU-Net v2 averages logits and this ensemble probabilities: a few pixels will differ".to_owned());
    }
    notes.push(format!(
        "the spacing of {} is not in nnU-Net's files: give it pictures of that spacing",
        manifest.task.spacing_um
    ));
    notes
}

fn plans(manifest: &EnsembleManifest, patch_px: u32) -> Json {
    let arch = &manifest.architecture;
    let stages = arch.stages();
    let residual = arch.encoder == Encoder::Residual;
    let (class, counts) = match arch.encoder {
        Encoder::Plain => ("PlainConvUNet", "n_conv_per_stage"),
        Encoder::Residual => ("ResidualEncoderUNet", "n_blocks_per_stage"),
    };
    let norm = match arch.norm {
        Norm::Batch => "torch.nn.modules.batchnorm.BatchNorm2d",
        Norm::Instance => "torch.nn.modules.instancenorm.InstanceNorm2d",
    };
    let scheme = match manifest.normalisation {
        Normalisation::RgbTo01 => "RGBTo01Normalization",
        Normalisation::ZScore => "ZScoreNormalization",
    };
    let resampling = |seg: bool| json!({"is_seg": seg, "order": 1, "order_z": 0, "force_separate_z": null});
    let mut arguments = json!({
        "n_stages": stages,
        "features_per_stage": arch.features,
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": vec![[3, 3]; stages],
        "strides": arch.strides.iter().map(|&s| [s, s]).collect::<Vec<_>>(),
        "n_conv_per_stage_decoder": arch.decoder_convs,
        "conv_bias": arch.bias,
        "norm_op": norm,
        "norm_op_kwargs": {"eps": 1e-5, "affine": true},
        "dropout_op": null,
        "dropout_op_kwargs": null,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": true},
    });
    arguments[counts] = json!(arch.convs);
    json!({
        "dataset_name": "Dataset001_Consilium",
        "plans_name": if residual { "nnUNetResEncUNetPlans" } else { "nnUNetPlans" },
        "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, patch_px, patch_px],
        "image_reader_writer": "NaturalImage2DIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": {
            "data_identifier": "nnUNetPlans_2d",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": [patch_px, patch_px],
            "median_image_size_in_voxels": [patch_px, patch_px],
            "spacing": [1.0, 1.0],
            "normalization_schemes": [scheme, scheme, scheme],
            "use_mask_for_norm": [false, false, false],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": resampling(false),
            "resampling_fn_seg_kwargs": resampling(true),
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": resampling(false),
            "architecture": {
                "network_class_name": format!("dynamic_network_architectures.architectures.unet.{class}"),
                "arch_kwargs": arguments,
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
            "batch_dice": true,
        }},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        // Of CT only, but asked for of every channel.
        "foreground_intensity_properties_per_channel": {"0": {}, "1": {}, "2": {}},
    })
}

fn dataset(manifest: &EnsembleManifest) -> Json {
    let name = match manifest.normalisation {
        Normalisation::RgbTo01 => "rgb_to_0_1",
        Normalisation::ZScore => "zscore",
    };
    let labels: serde_json::Map<String, Json> =
        manifest.task.classes.iter().enumerate().map(|(number, name)| (name.clone(), json!(number))).collect();
    json!({
        "channel_names": {"0": name, "1": name, "2": name},
        "labels": labels,
        "numTraining": 0,
        "file_ending": ".png",
    })
}

/// Names under which nnU-Net shows a tensor, its own first: layers are also numbered, and the decoder holds the encoder.
fn aliases(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    for (part, number) in [(".conv.", "0"), (".norm.", "1")] {
        if let Some((before, after)) = name.rsplit_once(part) {
            names.push(format!("{before}.all_modules.{number}.{after}"));
        }
    }
    if name.starts_with("encoder.") {
        names.extend(names.clone().iter().map(|name| format!("decoder.{name}")));
    }
    names
}

fn write_member(path: &Path, arch: &Architecture, member: &MemberWeights, fold: usize) -> Result<(), ImportError> {
    // What nnU-Net's layers have and ours lack: a bias of zero.
    let like = Architecture { up_bias: Some(arch.bias), head_bias: Some(true), ..arch.clone() };
    let shapes = like.tensors();
    let zeros: Vec<Vec<f32>> = shapes
        .iter()
        .map(|t| if member.get(&t.name).is_some() { Vec::new() } else { vec![0.0; t.elements()] })
        .collect();
    let (mut weights, mut storages) = (Vec::new(), Vec::new());
    for (shape, zeros) in shapes.iter().zip(&zeros) {
        let values = member.get(&shape.name).map_or(zeros.as_slice(), |tensor| tensor.values.as_slice());
        let tensor = Item::Tensor { shape: &shape.shape, storage: storages.len() };
        storages.push(Stored::Floats(values));
        weights.extend(aliases(&shape.name).into_iter().map(|name| (name, tensor.clone())));
        if let Some(layer) = shape.name.strip_suffix(".running_var") {
            let count = Item::Count { storage: storages.len() };
            storages.push(Stored::Count(0));
            let named = aliases(&format!("{layer}.num_batches_tracked"));
            weights.extend(named.into_iter().map(|name| (name, count.clone())));
        }
    }
    let entry = |name: &str, item| (name.to_owned(), item);
    let root = Item::Dict(vec![
        entry("network_weights", Item::Dict(weights)),
        // nnU-Net's fold numbers: at most as many as there are members.
        entry(
            "init_args",
            Item::Dict(vec![entry("configuration", Item::Text("2d")), entry("fold", Item::Int(fold as i32))]),
        ),
        entry("trainer_name", Item::Text("nnUNetTrainer")),
        entry("inference_allowed_mirroring_axes", Item::Tuple(vec![Item::Int(0), Item::Int(1)])),
        entry("current_epoch", Item::Int(0)),
        entry("optimizer_state", Item::None),
    ]);
    let file = fs::File::create_new(path).map_err(|e| ImportError::write(path, e))?;
    write_checkpoint(io::BufWriter::new(file), &root, &storages).map_err(|e| ImportError::write(path, e))
}

fn write_json(path: &Path, value: &Json) -> Result<(), ImportError> {
    fs::write(path, format!("{value:#}\n")).map_err(|e| ImportError::write(path, e))
}
