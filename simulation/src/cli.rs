//! The command line: what can be given, and help. What is made of it is in [`actions`].

mod actions;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use consilium_learning::engine::Device;

pub use actions::Action;

use crate::active::Strategy;
use crate::rare::SLIDES;

/// Simulates a federation of hospitals on this machine, with the real coordinator and the real site client.
///
/// Without a command it runs the demonstration: it draws the slides of five hospitals, trains a first ensemble at one of
/// them, lets all of them teach it for a few rounds, and writes a report.
#[derive(Debug, Parser)]
#[command(name = "consilium-simulate", version, max_term_width = 100, args_conflicts_with_subcommands = false)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    choices: Choices,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The same on data folders that exist.
    ///
    /// DIR holds one folder a site, each with slides/, masks/ and perhaps slides.csv. Where a site's table names no split,
    /// the seed holds out 30 % of its slides with masks, at least two; else slides without a split are its pool.
    Run {
        /// Folder with one data folder a site.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The site that trains the first ensemble; it is left out of the mean.
        #[arg(long, value_name = "SITE")]
        central: String,
    },
    /// Compares acquisition rules on data folders that exist: which patches are worth a pathologist's time.
    ///
    /// Every rule starts from the same first ensembles, asks each site for the same number of patches, fine-tunes at every
    /// site, aggregates, and is measured on fields that are held out; each field is held out once, whatever split slides.csv
    /// names. The random rule and UGA's are always among the arms. What is finished is kept in --out: run it again to go on, or with more arms,
    /// budgets or seeds. --acquisition and --budget take several values, separated by commas, and --rounds says in how many
    /// rounds a budget is spent. The rules: random, foreground-random, uga, uga-mean, entropy, entropy-foreground,
    /// entropy-border, entropy-top, bald, kl, variance, monai-variance, margin, least-confidence, clasp-pe, power-bald,
    /// soft-rank-bald, stochastic-batches, k-means, farthest-first, typiclust, max-herding, two-stage, class-error, and full,
    /// which learns from all fields that are not held out, in up to ten times as many steps. --vary tries the rules that
    /// --acquisition names also with other settings of the plan, one at a time. Of --plan a comparison takes everything but
    /// seed, rounds, score, budget and gate: it measures every generation.
    Compare(CompareArgs),
    /// Active learning on pictures with masks, in the words of MONAI's tutorial.
    ///
    /// One network learns from an initial pool of pictures; after each training a strategy asks for more by how unsure the
    /// network is of them, in passes of Monte Carlo dropout, and training goes on. Beside the strategies one network learns
    /// from all pictures at once. A fifth of the pictures is for validation, which chooses the best network of a
    /// training, and a fifth for the test. What is finished is kept in --out, with the pools as JSON: run it again to go on,
    /// or with more iterations or strategies.
    ActiveLearning(ActiveArgs),
    /// Draws centres with rare tumour, to compare acquisition rules on.
    ///
    /// Five centres in the shape of Camelyon17: slides with no tumour, with isolated tumour cells (clusters under 0.2 mm),
    /// with micrometastases (0.2 to 2 mm) and with macrometastases (over 2 mm), in turn, and benign areas that
    /// resemble tumour. Writes one data folder a centre and plan.toml into --out, which must be empty, and ends with the
    /// command that compares rules on them. The first centre is meant to be the central one.
    Draw {
        /// Slides of each centre, 8 to 64; the stages take turns.
        #[arg(long, value_name = "N", default_value_t = SLIDES)]
        slides: usize,
    },
    /// Writes the report, tables and figures of a comparison again, from what its folder keeps.
    ///
    /// Needs neither slides nor networks, and gives the same files, byte for byte, as the comparison itself. Of one that was
    /// broken off it tells what is there. Of a summary.json alone, or of one under another name, it draws the figures that
    /// stand in a summary as SVG beside it.
    Render {
        /// The folder of a comparison, or the summary of one.
        #[arg(value_name = "DIR|FILE")]
        from: PathBuf,
    },
    /// A big slide made of real fields, and its mask, for trials of size and speed.
    ///
    /// The fields are laid side by side, turned and mirrored by the seed, into a pyramidal JPEG TIFF. --out is the slide to
    /// be written.
    Mosaic {
        /// Folder with slides/ and masks/, or a folder of such folders; all of one spacing.
        #[arg(long, value_name = "DIR")]
        fields: PathBuf,
        /// Width in pixels.
        #[arg(long, value_name = "W")]
        width: u32,
        /// Height in pixels.
        #[arg(long, value_name = "H")]
        height: u32,
        /// Share of the slide that is glass around islands of tissue, 0 to 1.
        #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
        glass: f64,
        /// The mask to be written [default: the slide's name with -mask.tif].
        #[arg(long, value_name = "FILE")]
        mask: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// Folder with one data folder a site.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The site that trains the first ensemble; its Dice is reported by itself.
    #[arg(long, value_name = "SITE")]
    central: String,
    /// Seeds, from --seed on.
    #[arg(long, value_name = "N", default_value_t = 5)]
    seeds: u64,
    /// Parts of each site's fields, each held out once.
    #[arg(long, value_name = "K", default_value_t = 2)]
    folds: usize,
    /// A setting of the plan's fine_tuning, rehearsal, aggregation or acquisition (but not score, budget, patch_px and
    /// control_share), and values to try; may be given several times.
    #[arg(long, value_name = "TABLE.KEY=V,V")]
    vary: Vec<String>,
    /// Begin the fine-tuning of every round with the first ensemble (a cold start), not with the generation before,
    /// which still chooses and rehearses.
    #[arg(long)]
    cold: bool,
    /// What computes: auto, cpu, onnx, cuda:N, or in a program built with it libtorch.
    #[arg(long, default_value_t = Device::Auto)]
    device: Device,
}

#[derive(Debug, Args)]
struct ActiveArgs {
    /// A data folder (slides/, masks/), or a folder of data folders, whose pictures are taken together.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Trainings of each strategy, the first on the initial pool.
    #[arg(long, value_name = "N", default_value_t = 6)]
    active_iters: u32,
    /// Pictures that are labelled at the start.
    #[arg(long, value_name = "N", default_value_t = 2)]
    initial_pool: u32,
    /// Pictures that are asked for after each training, as long as there are any.
    #[arg(long, value_name = "N", default_value_t = 1)]
    queries: u32,
    /// How pictures are asked for; several are compared.
    #[arg(long, value_delimiter = ',', default_value = "variance,random")]
    strategy: Vec<Strategy>,
    /// Passes of Monte Carlo dropout.
    #[arg(long, value_name = "T", default_value_t = 10)]
    mc_number: u32,
    /// Share of channels that a pass leaves out.
    #[arg(long, value_name = "P", default_value_t = 0.2)]
    dropout_ratio: f64,
    /// Optimiser steps of each training [default: those of --plan, else 200].
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Epochs between validations.
    #[arg(long, value_name = "N", default_value_t = 5)]
    val_interval: u32,
    /// What computes: auto, cpu, onnx, cuda:N, or in a program built with it libtorch.
    #[arg(long, default_value_t = Device::Auto)]
    device: Device,
}

#[derive(Debug, Args)]
struct Choices {
    /// Folder for the report and the figures [default: consilium-demo].
    #[arg(long, value_name = "DIR", global = true)]
    out: Option<PathBuf>,
    /// Seed of everything random: the same seed gives the same metrics.json.
    #[arg(long, value_name = "N", global = true)]
    seed: Option<u64>,
    /// Sites that take part, the central one included [default: 5, or all folders].
    #[arg(long, value_name = "N", global = true)]
    sites: Option<usize>,
    /// Rounds of learning [default: 3; to compare: 1].
    #[arg(long, value_name = "N", global = true)]
    rounds: Option<u32>,
    /// Patches that each site is asked to correct in a round [default: 5], or to compare in all rounds together
    /// [default: 5,10].
    #[arg(long, value_name = "K", global = true, value_delimiter = ',')]
    budget: Vec<u32>,
    /// How patches are chosen: uga, uga-mean, entropy, entropy-foreground, entropy-border, entropy-top, kl, margin,
    /// least-confidence, clasp-pe, random or foreground-random [default: clasp-pe]; `compare` knows more.
    #[arg(long, value_name = "RULE", global = true, value_delimiter = ',')]
    acquisition: Vec<String>,
    /// Networks in the ensemble [default: 5].
    #[arg(long, value_name = "M", global = true)]
    members: Option<usize>,
    /// Less of everything: a few minutes instead of ten.
    #[arg(long, global = true)]
    quick: bool,
    /// A plan of your own (TOML) instead of the built-in one; it also holds the seed.
    #[arg(long, value_name = "FILE", global = true)]
    plan: Option<PathBuf>,
    /// Keep the work folder: drawn slides, certificates, the state of coordinator and sites.
    #[arg(long, global = true)]
    keep: bool,
}
