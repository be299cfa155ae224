//! nnU-Net v2: `plans.json`, `dataset.json` and the checkpoints of the folds, as `nnUNetv2_train` leaves them.

use std::path::Path;

use consilium_common::Digest;
use consilium_common::bundle::{Averaging, Conventions, Normalisation, Padding};
use consilium_common::plan::{Architecture, Encoder, Norm};
use serde_json::{Map, Value as Json};

use super::members::{Fold, members};
use super::plan::Part;
use super::{ImportError, Imported, MIRRORED, Request, folds, read_document};
use crate::checkpoint::{Value, read_checkpoint};

/// The checkpoint after the last epoch.
const FINAL: &str = "checkpoint_final.pth";
/// What to do when a file of a trained configuration is missing.
const WHICH: &str = "give the folder of one trained configuration, such as nnUNetTrainer__nnUNetPlans__2d";
/// Configurations that inherit from each other; nnU-Net's own do so once.
const LONGEST_CHAIN: usize = 16;

/// Imports a trained 2D configuration of nnU-Net v2: the folder `TRAINER__PLANS__CONFIGURATION`.
///
/// # Errors
/// A file that is missing, damaged or asks to run something, a network of a kind that is not computed here, and weights
/// that are not those of the plans.
pub fn nnunet_v2(request: &Request) -> Result<Imported, ImportError> {
    let (plans_path, data_path) = (request.dir.join("plans.json"), request.dir.join("dataset.json"));
    let bytes = read_document(&plans_path, WHICH)?;
    let plans = parse(&plans_path, &bytes)?;
    let data = parse(&data_path, &read_document(&data_path, WHICH)?)?;
    let data = Part::new(&data_path, &data);
    let classes = classes(data)?;
    let checkpoint = request.checkpoint.as_deref().unwrap_or(FINAL);
    let folds = folds(request, checkpoint)?;
    let path = |fold: &String| request.dir.join(format!("fold_{fold}")).join(checkpoint);
    let first_path = path(&folds[0]);
    let first = open(&first_path)?;
    let configuration = configuration(Part::new(&plans_path, &plans), &request.dir, &first)?;
    let configuration = Part::new(&plans_path, &configuration);
    let mut architecture = architecture(configuration, classes.len())?;
    architecture.norm = first.norm();
    architecture.validate()?;
    let mut notes = notes(&first);
    let others = folds[1..].iter().map(path);
    let members = members(first, others, &architecture, open)?;
    if data.find("labels").is_some_and(|labels| labels.find("ignore").is_some()) {
        notes.push("its label `ignore` is our 255, not labelled".to_owned());
    }
    Ok(Imported {
        architecture,
        members,
        conventions: conventions(configuration)?,
        classes,
        patch_px: configuration.patch()?,
        plan: Digest::of(&bytes),
        folds,
        notes,
    })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Json, ImportError> {
    serde_json::from_slice(bytes).map_err(|e| ImportError::plans(path, e.to_string()))
}

fn open(path: &Path) -> Result<Fold<'_>, ImportError> {
    // nnU-Net shows every tensor again under other names.
    let alias = |name: &str| name.contains(".all_modules.") || name.starts_with("decoder.encoder.");
    let ours = |name: &str| (!alias(name) && !name.ends_with(".num_batches_tracked")).then(|| name.to_owned());
    Fold::new(path, read_checkpoint(path)?, "network_weights", ours)
}

/// The configuration that was trained, with what it inherits.
fn configuration(plans: Part<'_>, dir: &Path, fold: &Fold<'_>) -> Result<Json, ImportError> {
    let trained = fold.checkpoint.root().get("init_args").and_then(|init| init.get("configuration"));
    let from_folder = || dir.file_name().and_then(|n| n.to_str()).and_then(|n| n.rsplit("__").next());
    let name = trained.and_then(Value::as_str).or_else(from_folder).unwrap_or("2d");
    let all = plans.get("configurations")?;
    let mut merged = Map::new();
    let mut next = Some(name.to_owned());
    for _ in 0..LONGEST_CHAIN {
        let Some(name) = next.take() else { break };
        let part = all.get(&name)?;
        let entries =
            part.value.as_object().ok_or_else(|| plans.wrong(format!("configuration `{name}` has no entries")))?;
        for (key, value) in entries {
            merged.entry(key).or_insert_with(|| value.clone());
        }
        next = part.find("inherits_from").and_then(|parent| parent.value.as_str()).map(str::to_owned);
    }
    if merged.get("previous_stage").is_some_and(|v| !v.is_null()) {
        return Err(plans.unsupported(format!("configuration `{name}`, the second stage of a cascade,")));
    }
    if merged.get("patch_size").and_then(Json::as_array).is_some_and(|sides| sides.len() != 2) {
        return Err(plans.unsupported(format!("the 3D configuration `{name}`")));
    }
    Ok(Json::Object(merged))
}

fn architecture(configuration: Part<'_>, classes: usize) -> Result<Architecture, ImportError> {
    let planned = configuration.find("architecture");
    let class = match &planned {
        Some(planned) => planned.text("network_class_name")?,
        None => configuration.text("UNet_class_name")?,
    };
    let encoder = match class.rsplit('.').next() {
        Some("PlainConvUNet") => Encoder::Plain,
        Some("ResidualEncoderUNet") => Encoder::Residual,
        _ => return Err(configuration.unsupported(format!("the network `{class}`"))),
    };
    let plain = Architecture { encoder, norm: Norm::Instance, ..Architecture::plain(classes, 1, 2) };
    match planned {
        Some(planned) => of_arguments(planned.get("arch_kwargs")?, plain),
        None => of_old_plans(configuration, plain),
    }
}

fn of_arguments(given: Part<'_>, plain: Architecture) -> Result<Architecture, ImportError> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    if let Some(conv) = given.find("conv_op").and_then(|v| v.value.as_str())
        && last(conv) != "Conv2d"
    {
        return Err(given.unsupported(format!("a network of {}", last(conv))));
    }
    if let Some(activation) = given.find("nonlin").and_then(|v| v.value.as_str())
        && last(activation) != "LeakyReLU"
    {
        return Err(given.unsupported(format!("the activation {}", last(activation))));
    }
    let slope = given.find("nonlin_kwargs").and_then(|v| v.find("negative_slope")).and_then(|v| v.value.as_f64());
    if slope.is_some_and(|slope| slope != 0.01) {
        return Err(given.unsupported(format!("LeakyReLU of slope {}", slope.unwrap_or_default())));
    }
    check_norm(given)?;
    let stages = given.whole("n_stages")?;
    let counts = if plain.encoder == Encoder::Residual { "n_blocks_per_stage" } else { "n_conv_per_stage" };
    given.only_three("kernel_sizes", stages)?;
    let bias = given.get("conv_bias")?.value.as_bool().unwrap_or(true);
    Ok(Architecture {
        features: given.wholes("features_per_stage", stages)?,
        strides: given.squares("strides", stages)?,
        convs: given.wholes(counts, stages)?,
        decoder_convs: given.wholes("n_conv_per_stage_decoder", stages.saturating_sub(1))?,
        bias,
        // Segmentation layers of v2 always have one.
        head_bias: (!bias).then_some(true),
        ..plain
    })
}

/// Plans of before 2.3, which name sizes only.
fn of_old_plans(given: Part<'_>, plain: Architecture) -> Result<Architecture, ImportError> {
    let strides = given.squares("pool_op_kernel_sizes", 0)?;
    let stages = strides.len();
    given.only_three("conv_kernel_sizes", stages)?;
    let (base, most) = (given.whole("UNet_base_num_features")?, given.whole("unet_max_num_features")?);
    let features = |stage: usize| base.checked_shl(stage as u32).map_or(most, |features| features.min(most));
    Ok(Architecture {
        features: (0..stages).map(features).collect(),
        strides,
        convs: given.wholes("n_conv_per_stage_encoder", stages)?,
        decoder_convs: given.wholes("n_conv_per_stage_decoder", stages.saturating_sub(1))?,
        ..plain
    })
}

fn check_norm(given: Part<'_>) -> Result<(), ImportError> {
    let Some(settings) = given.find("norm_op_kwargs") else { return Ok(()) };
    let epsilon = settings.find("eps").and_then(|v| v.value.as_f64()).unwrap_or(1e-5);
    let affine = settings.find("affine").and_then(|v| v.value.as_bool()).unwrap_or(true);
    if (epsilon - 1e-5).abs() > 1e-9 || !affine {
        return Err(given.unsupported(format!("a normalisation of {}", settings.value)));
    }
    Ok(())
}

/// Names of the labels in the order of their numbers, the background first.
fn classes(data: Part<'_>) -> Result<Vec<String>, ImportError> {
    if data.find("regions_class_order").is_some() {
        return Err(data.unsupported("training on regions (`regions_class_order`)"));
    }
    let labels = data.get("labels")?;
    let mut found = Vec::new();
    for (name, value) in labels.value.as_object().into_iter().flatten().filter(|(name, _)| *name != "ignore") {
        let value = match value {
            Json::Array(values) if values.len() == 1 => &values[0],
            Json::Array(_) => return Err(data.unsupported(format!("the region `{name}` of several labels"))),
            value => value,
        };
        let number = Part { value, ..labels }.number();
        found.push((number.ok_or_else(|| labels.wrong(format!("label `{name}` has no number")))?, name.clone()));
    }
    found.sort();
    if found.iter().map(|(number, _)| *number).ne(0..found.len()) {
        return Err(labels.wrong("its labels are not 0, 1, 2 and so on"));
    }
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

fn conventions(configuration: Part<'_>) -> Result<Conventions, ImportError> {
    let schemes = configuration.get("normalization_schemes")?;
    let names: Vec<&str> = schemes.value.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    if names.len() != 3 {
        return Err(configuration.unsupported(format!("a network of {} channels", names.len())));
    }
    let masked = configuration.find("use_mask_for_norm");
    let masked =
        masked.and_then(|v| v.value.as_array()).is_some_and(|all| all.iter().any(|v| v.as_bool() == Some(true)));
    let all = names.iter().all(|name| *name == names[0]);
    let normalisation = match (names[0], masked) {
        ("RGBTo01Normalization", _) if all => Normalisation::RgbTo01,
        ("ZScoreNormalization", false) if all => Normalisation::ZScore,
        ("ZScoreNormalization", true) if all => return Err(configuration.unsupported("a z-score under a mask")),
        _ => return Err(configuration.unsupported(format!("the normalisation {}", schemes.value))),
    };
    Ok(Conventions { normalisation, averaging: Averaging::Logits, padding: Padding::Zero })
}

/// What the checkpoint says that a person should know.
fn notes(fold: &Fold<'_>) -> Vec<String> {
    let root = fold.checkpoint.root();
    let mut notes = Vec::new();
    if let Some(trainer) = root.get("trainer_name").and_then(Value::as_str) {
        notes.push(format!("trained by {trainer}"));
    }
    if root.get("inference_allowed_mirroring_axes").and_then(Value::as_list).is_some_and(|axes| !axes.is_empty()) {
        notes.push(MIRRORED.to_owned());
    }
    notes
}
