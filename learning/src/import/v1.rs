//! nnU-Net v1: the pickled plans beside each checkpoint, and the names of `Generic_UNet`.

use std::path::Path;

use consilium_common::Digest;
use consilium_common::bundle::{Averaging, Conventions, Normalisation, Padding};
use consilium_common::plan::Architecture;
use serde_json::Value as Json;

use super::members::{Fold, members};
use super::plan::{Part, json};
use super::{ImportError, Imported, MIRRORED, Request, folds, read_document};
use crate::checkpoint::{read_checkpoint, read_pickle};

/// The checkpoint after the last epoch.
const FINAL: &str = "model_final_checkpoint.model";
/// What to do when a file of a trained network is missing.
const WHICH: &str = "give the folder of one trained 2D network, such as nnUNetTrainerV2__nnUNetPlansv2.1";

/// Imports a trained 2D network of nnU-Net v1: the folder `TRAINER__PLANS`.
///
/// # Errors
/// As for [`nnunet_v2`](super::nnunet_v2).
pub fn nnunet_v1(request: &Request) -> Result<Imported, ImportError> {
    let checkpoint = request.checkpoint.as_deref().unwrap_or(FINAL);
    let folds = folds(request, checkpoint)?;
    let path = |fold: &String| request.dir.join(format!("fold_{fold}")).join(checkpoint);
    let described = request.dir.join(format!("fold_{}", folds[0])).join(format!("{checkpoint}.pkl"));
    let bytes = read_document(&described, WHICH)?;
    let about = json(&read_pickle(&described)?);
    let plans = Part::new(&described, &about).get("plans")?;
    let stage = stage(plans)?;
    let strides = stage.squares("pool_op_kernel_sizes", 0)?;
    stage.only_three("conv_kernel_sizes", 0)?;
    let first_path = path(&folds[0]);
    let convs = plans.find("conv_per_stage").map_or(Ok(2), |_| plans.whole("conv_per_stage"))?;
    let names = Names { poolings: strides.len(), convs };
    let first = open(&first_path, names)?;
    let architecture = architecture(&first, plans, &strides, convs)?;
    architecture.validate()?;
    let others = folds[1..].iter().map(path);
    let members = members(first, others, &architecture, |path| open(path, names))?;
    let mut classes = vec!["background".to_owned()];
    classes.extend((1..architecture.classes).map(|class| format!("class {class}")));
    let trainer = about.get("name").and_then(Json::as_str).unwrap_or("an unknown trainer");
    Ok(Imported {
        classes,
        conventions: conventions(plans)?,
        patch_px: stage.patch()?,
        plan: Digest::of(&bytes),
        folds,
        notes: vec![
            format!("trained by {trainer}"),
            "v1 does not say what its classes are called; name them with --classes".to_owned(),
            MIRRORED.to_owned(),
        ],
        architecture,
        members,
    })
}

/// The last stage of the plans: 2D networks have one.
fn stage(plans: Part<'_>) -> Result<Part<'_>, ImportError> {
    let stages = plans.get("plans_per_stage")?;
    let count = match stages.value {
        Json::Object(entries) => entries.len(),
        Json::Array(entries) => entries.len(),
        _ => 0,
    };
    match (count, stages.value) {
        (1, Json::Array(entries)) => Ok(Part { value: &entries[0], ..stages }),
        (1, _) => stages.get("0"),
        _ => Err(plans.unsupported(format!("a network of {count} stages"))),
    }
}

/// What turns names of `Generic_UNet` into nnU-Net v2's.
#[derive(Clone, Copy, Debug)]
struct Names {
    poolings: usize,
    /// Convolutions of each stage.
    convs: usize,
}

fn open(path: &Path, names: Names) -> Result<Fold<'_>, ImportError> {
    Fold::new(path, read_checkpoint(path)?, "state_dict", |name| names.ours(name))
}

impl Names {
    fn ours(self, name: &str) -> Option<String> {
        if name.ends_with(".num_batches_tracked") {
            return None;
        }
        let parts: Vec<&str> = name.split('.').collect();
        // Batch normalisation is called so, too.
        let norm = |part: &str| part.replace("instnorm", "norm");
        // Bottleneck and decoder stages have their last convolution apart.
        let place = |half: &str, conv: &str| if half == "0" { conv.to_owned() } else { (self.convs - 1).to_string() };
        Some(match parts.as_slice() {
            ["conv_blocks_context", stage, "blocks", conv, part, field] => {
                format!("encoder.stages.{stage}.0.convs.{conv}.{}.{field}", norm(part))
            }
            ["conv_blocks_context", stage, half, "blocks", conv, part, field]
                if *stage == self.poolings.to_string() =>
            {
                format!("encoder.stages.{stage}.0.convs.{}.{}.{field}", place(half, conv), norm(part))
            }
            ["conv_blocks_localization", level, half, "blocks", conv, part, field] => {
                format!("decoder.stages.{level}.convs.{}.{}.{field}", place(half, conv), norm(part))
            }
            ["tu", level, field] => format!("decoder.transpconvs.{level}.{field}"),
            ["seg_outputs", level, field] => format!("decoder.seg_layers.{level}.{field}"),
            // Of an unknown kind: it has no place in the architecture and is refused by this name.
            _ => name.to_owned(),
        })
    }
}

/// Features come from the weights: how they grow and where they stop is not in the plans.
fn architecture(
    fold: &Fold<'_>,
    plans: Part<'_>,
    poolings: &[usize],
    convs: usize,
) -> Result<Architecture, ImportError> {
    let stages = poolings.len() + 1;
    let features = |stage: usize| {
        let name = format!("encoder.stages.{stage}.0.convs.0.conv.weight");
        let shape = fold.shape(&name).ok_or_else(|| ImportError::network(fold.path, format!("`{name}` is missing")))?;
        match shape {
            [outputs, _, 3, 3] => Ok(*outputs),
            _ => Err(ImportError::network(fold.path, format!("`{name}` is {shape:?}, not of 3x3"))),
        }
    };
    let channels = plans.whole("num_modalities")?;
    if channels != 3 {
        return Err(plans.unsupported(format!("a network of {channels} channels")));
    }
    Ok(Architecture {
        features: (0..stages).map(features).collect::<Result<_, _>>()?,
        strides: [1].iter().chain(poolings).copied().collect(),
        convs: vec![convs; stages],
        decoder_convs: vec![convs; stages - 1],
        norm: fold.norm(),
        bias: true,
        up_bias: Some(false),
        head_bias: Some(false),
        ..Architecture::plain(plans.whole("num_classes")? + 1, 1, 2)
    })
}

fn conventions(plans: Part<'_>) -> Result<Conventions, ImportError> {
    let preprocessor = plans.text("preprocessor_name")?;
    let schemes = plans.get("normalization_schemes")?;
    let each: Vec<&str> = match schemes.value {
        Json::Object(entries) => entries.values().filter_map(Json::as_str).collect(),
        Json::Array(entries) => entries.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    };
    let masked = plans.find("use_mask_for_norm").map(|v| v.value.to_string().contains("true")).unwrap_or(false);
    // This preprocessor divides by 255 and looks at no scheme.
    let normalisation = if preprocessor.contains("scale_uint8_to_0_1") {
        Normalisation::RgbTo01
    } else if each.iter().any(|scheme| *scheme != "nonCT") || each.is_empty() {
        return Err(plans.unsupported(format!("the normalisation {}", schemes.value)));
    } else if masked {
        return Err(plans.unsupported("a z-score under a mask"));
    } else {
        Normalisation::ZScore
    };
    Ok(Conventions { normalisation, averaging: Averaging::Probabilities, padding: Padding::Zero })
}
