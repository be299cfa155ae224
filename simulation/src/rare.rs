//! Drawn centres with rare tumour: data folders in the shape of Camelyon17, on which acquisition rules can be compared.
//!
//! Each centre has slides of all four stages, in turn, and benign areas that resemble tumour. Beside them lies a plan
//! made for them. The same seed gives the same bytes; a folder that holds anything is refused.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use crate::draw::{LookAlikes, Stage, centres, write_rare_centre};
use crate::experiment::{ExperimentError, Options, rare_plan};

/// Centres and slides a centre without a wish.
pub const SITES: usize = 5;
/// Two of each stage.
pub const SLIDES: usize = 8;
/// Two of each stage: one to learn from when the other is held out.
const MIN_SLIDES: usize = 8;
/// Beyond, comparisons hold too much in memory: a slide is 6 MB there.
const MAX_SLIDES: usize = 64;

/// What to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawOptions {
    /// The folder to be written.
    pub out: PathBuf,
    /// Seed of everything.
    pub seed: u64,
    /// Centres.
    pub sites: usize,
    /// Slides of each centre.
    pub slides: usize,
}

impl DrawOptions {
    fn validate(&self) -> Result<(), ExperimentError> {
        let most = Options::MAX_SITES;
        if !(2..=most).contains(&self.sites) {
            let why = format!("--sites {} must be 2 to {most}: a central centre and at least one other", self.sites);
            return Err(ExperimentError::Usage(why));
        }
        if !(MIN_SLIDES..=MAX_SLIDES).contains(&self.slides) {
            let why =
                format!("--slides {} must be {MIN_SLIDES} to {MAX_SLIDES}: two of each stage at least", self.slides);
            return Err(ExperimentError::Usage(why));
        }
        if std::fs::read_dir(&self.out).is_ok_and(|mut entries| entries.next().is_some()) {
            let why = format!("{} is not empty; choose another folder with --out", self.out.display());
            return Err(ExperimentError::Usage(why));
        }
        Ok(())
    }
}

/// What was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// Each centre, the central one first, with its slides' stages and shares of tissue that are tumour.
    pub centres: Vec<(String, Vec<(Stage, f64)>)>,
    /// Wall time.
    pub seconds: f64,
}

/// Draws all centres and writes their plan. `drawn` is called after each slide.
///
/// # Errors
/// The numbers are out of range, the folder is not empty, or a file cannot be written.
pub fn draw_centres(options: &DrawOptions, drawn: &(dyn Fn() + Sync)) -> Result<Drawn, ExperimentError> {
    let started = Instant::now();
    options.validate()?;
    let mut done = Vec::new();
    for (index, centre) in centres(options.sites, options.seed).iter().enumerate() {
        let (root, look_alikes) = (options.out.join(&centre.name), LookAlikes::of_centre(index));
        let shares = write_rare_centre(&root, centre, look_alikes, options.seed, options.slides, drawn)?;
        done.push((centre.name.clone(), shares));
    }
    let path = options.out.join("plan.toml");
    let plan = rare_plan(options.sites, options.seed)?.to_toml()?;
    std::fs::write(&path, plan).map_err(ExperimentError::file(&path))?;
    Ok(Drawn { centres: done, seconds: started.elapsed().as_secs_f64() })
}

impl Drawn {
    /// The mean share of tumour by centre and stage, and the command that compares rules on it. `quoted` makes a shell's word
    /// of a path.
    pub fn summary(&self, options: &DrawOptions, quoted: impl Fn(&str) -> String) -> String {
        let mut text = format!("{:12}", "tumour, %");
        for stage in Stage::ALL {
            let _ = write!(text, "{:>10}", stage.word());
        }
        for (name, slides) in &self.centres {
            let _ = write!(text, "\n{name:12}");
            for stage in Stage::ALL {
                let shares: Vec<f64> = slides.iter().filter(|s| s.0 == stage).map(|s| s.1).collect();
                let _ = write!(text, "{:>10.2}", 100.0 * shares.iter().sum::<f64>() / shares.len().max(1) as f64);
            }
        }
        let (out, plan) = (options.out.display().to_string(), options.out.join("plan.toml").display().to_string());
        let (slides, sites) = (options.slides * options.sites, options.sites);
        let central = self.centres.first().map_or("", |(name, _)| name);
        let _ = write!(
            text,
            "\n\n{slides} slides of {sites} centres in {:.0} s: {out}\nTo compare acquisition rules on them:\n  \
             consilium-simulate compare --data {data} --central {central} --plan {plan} --acquisition \
             foreground-random,entropy,bald,clasp-pe --budget 5,10 --out compared",
            self.seconds,
            data = quoted(&out),
            plan = quoted(&plan),
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(out: PathBuf) -> DrawOptions {
        DrawOptions { out, seed: 3, sites: 2, slides: 8 }
    }

    #[test]
    fn numbers_out_of_range_and_filled_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let said = |options: DrawOptions| {
            let error = draw_centres(&options, &|| ()).unwrap_err();
            assert_eq!(error.exit_code(), 64);
            error.to_string()
        };
        let empty = options(folder.path().join("new"));
        assert!(said(DrawOptions { sites: 1, ..empty.clone() }).contains("--sites 1 must be 2 to 40"));
        assert!(said(DrawOptions { slides: 3, ..empty.clone() }).contains("--slides 3 must be 8 to 64"));
        assert!(said(DrawOptions { slides: 65, ..empty }).contains("--slides 65"));
        std::fs::write(folder.path().join("a"), "b").unwrap();
        assert!(said(options(folder.path().to_owned())).contains("is not empty"));
    }

    #[test]
    fn a_summary_ends_with_the_command() {
        let shares = vec![(Stage::Negative, 0.0), (Stage::Itc, 0.001), (Stage::Micro, 0.01), (Stage::Macro, 0.06)];
        let drawn = Drawn { centres: vec![("here".into(), shares.clone()), ("there".into(), shares)], seconds: 12.3 };
        let summary = drawn.summary(&options("a b".into()), |word| format!("'{word}'"));
        insta::assert_snapshot!(summary);
    }
}
