//! `consilium-site import` and `export`: bundles from and to nnU-Net.

use std::path::{Path, PathBuf};

use consilium_common::bundle::Provenance;
use consilium_common::plan::{Architecture, Task};
use consilium_common::{Digest, GenerationNumber, Mpp};
use consilium_learning::import::{Imported, Request, export_nnunet_v2, nnunet_v1, nnunet_v2};
use consilium_learning::network::Ensemble;

use crate::error::SiteError;

/// Which nnU-Net trained an ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// nnU-Net v1: `TRAINER__PLANS` with `fold_K/model_final_checkpoint.model`.
    NnunetV1,
    /// nnU-Net v2: `TRAINER__PLANS__2d` with `fold_K/checkpoint_final.pth`.
    NnunetV2,
}

/// What to import, and as what.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    /// Who trained it.
    pub source: Source,
    /// The folder, its folds and checkpoints.
    pub from: Request,
    /// Spacing of the pictures that it was trained on, which nnU-Net does not keep.
    pub spacing: Mpp,
    /// Names of the classes, the background first, in place of the source's; none keeps those.
    pub classes: Vec<String>,
    /// The bundle to write.
    pub out: PathBuf,
}

/// What an import wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportReport {
    /// The digest of the bundle's manifest.
    pub manifest: Digest,
    /// The network.
    pub architecture: Architecture,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The folds that became members.
    pub folds: Vec<String>,
    /// Width and height of the patches that it was trained on.
    pub patch_px: (u32, u32),
    /// What a person should know, one sentence each.
    pub notes: Vec<String>,
}

/// Imports an ensemble of nnU-Net as a bundle. Nothing in its files is run.
///
/// # Errors
/// Files that are missing, damaged or ask to run something, a network of a kind that is not computed here, or a folder
/// that cannot be written.
pub fn import(request: &ImportRequest) -> Result<ImportReport, SiteError> {
    let read = match request.source {
        Source::NnunetV1 => nnunet_v1(&request.from),
        Source::NnunetV2 => nnunet_v2(&request.from),
    };
    let imported: Imported = read.map_err(SiteError::learning("importing"))?;
    let classes = if request.classes.is_empty() { imported.classes } else { request.classes.clone() };
    if classes.len() != imported.architecture.classes {
        let (given, needed) = (classes.len(), imported.architecture.classes);
        return Err(SiteError::Usage(format!("--classes names {given} classes, and the network has {needed}")));
    }
    let task = Task { classes, spacing_um: request.spacing };
    task.validate()?;
    let provenance =
        Provenance { study: None, plan: imported.plan, round: None, parent: None, contributions: Vec::new() };
    let (architecture, conventions) = (imported.architecture, imported.conventions);
    let generation = GenerationNumber(0);
    let manifest =
        Ensemble::save_as(&request.out, &task, &architecture, &imported.members, conventions, provenance, generation)
            .map_err(SiteError::learning("writing the bundle"))?;
    Ok(ImportReport {
        manifest: Digest::of(&manifest.to_bytes()?),
        architecture,
        classes: task.classes,
        folds: imported.folds,
        patch_px: imported.patch_px,
        notes: imported.notes,
    })
}

/// Writes a bundle as nnU-Net v2 keeps a trained configuration; what is to be known about it comes back.
///
/// # Errors
/// A bundle that cannot be read, a network that nnU-Net has no plans for, or a folder that exists or cannot be written.
pub fn export(bundle: &Path, tile_px: u32, out: &Path) -> Result<Vec<String>, SiteError> {
    let ensemble = Ensemble::load(bundle).map_err(SiteError::learning("loading the bundle"))?;
    let stride = ensemble.manifest.architecture.total_stride();
    if tile_px == 0 || !tile_px.is_multiple_of(stride) {
        return Err(SiteError::Usage(format!(
            "--tile-px {tile_px} must be a multiple of {stride}, the network's stride"
        )));
    }
    export_nnunet_v2(&ensemble, tile_px, out).map_err(SiteError::learning("exporting"))
}
