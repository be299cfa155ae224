//! `consilium-site import` and `export`: what can be typed, and what is printed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use consilium_common::Mpp;
use consilium_common::plan::{Encoder, Norm};
use consilium_learning::import::Request;
use consilium_site_client::SiteError;
use consilium_site_client::offline::{self, ImportRequest, Source};

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Who trained the ensemble.
    source: From,
    /// The folder of one trained 2D configuration, with fold_0 and so on in it.
    dir: PathBuf,
    /// The bundle to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Micrometres per pixel of the pictures that it was trained on; nnU-Net does not keep it.
    #[arg(long, value_name = "UM")]
    spacing_um: f64,
    /// The folds that become members, in this order [default: all].
    #[arg(long, value_name = "FOLD", value_delimiter = ',')]
    folds: Vec<String>,
    /// File name of the checkpoint in each fold [default: the one after the last epoch].
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<String>,
    /// Names of the classes, the background first [default: those of dataset.json; v1 keeps none].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    classes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The form to write.
    form: Form,
    /// The bundle: a folder with ensemble.json.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Side of the tiles that nnU-Net will take, in pixels.
    #[arg(long, default_value_t = 256)]
    tile_px: u32,
    /// The folder to write, which must not exist; nnU-Net wants a name such as nnUNetTrainer__nnUNetPlans__2d.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    NnunetV1,
    NnunetV2,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    NnunetV2,
}

impl Import {
    pub(super) fn run(self) -> Result<(), SiteError> {
        let spacing = Mpp::new(self.spacing_um).map_err(|e| SiteError::Usage(format!("--spacing-um: {e}")))?;
        let source = match self.source {
            From::NnunetV1 => Source::NnunetV1,
            From::NnunetV2 => Source::NnunetV2,
        };
        let from = Request { dir: self.dir, folds: self.folds, checkpoint: self.checkpoint };
        let request = ImportRequest { source, from, spacing, classes: self.classes, out: self.out.clone() };
        let report = offline::import(&request)?;
        let arch = &report.architecture;
        let kind = match arch.encoder {
            Encoder::Plain => "PlainConvUNet",
            Encoder::Residual => "ResidualEncoderUNet",
        };
        let norm = match arch.norm {
            Norm::Batch => "batch",
            Norm::Instance => "instance",
        };
        println!(
            "imported {} members (folds {}) into {}",
            report.folds.len(),
            report.folds.join(", "),
            self.out.display()
        );
        println!("  {kind}, {} stages, features {:?}, {norm} normalisation", arch.stages(), arch.features);
        println!("  classes {}", report.classes.join(", "));
        println!("  manifest {}", report.manifest.short());
        report.notes.iter().for_each(|note| println!("  {note}"));
        let (width, height) = report.patch_px;
        println!("scan with --tile-px {} (it was trained on patches of {width} x {height})", width.min(height));
        Ok(())
    }
}

impl Export {
    pub(super) fn run(self) -> Result<(), SiteError> {
        let Form::NnunetV2 = self.form;
        let notes = offline::export(&self.bundle, self.tile_px, &self.out)?;
        println!("exported into {}; predict with nnUNetv2_predict_from_modelfolder", self.out.display());
        notes.iter().for_each(|note| println!("  {note}"));
        Ok(())
    }
}
