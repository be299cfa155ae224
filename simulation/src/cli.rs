//! The command line: parsing and help.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use consilium_common::plan::Score;
use consilium_learning::engine::Device;

use crate::active::{ActiveOptions, Strategy};
use crate::compare::CompareOptions;
use crate::experiment::{Options, Source};
use crate::mosaic::MosaicOptions;
use crate::rare::{DrawOptions, SITES, SLIDES};

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
    /// site, aggregates, and is measured on fields that are held out; each field is held out once. The random rule and
    /// UGA's are always among the arms. What is finished is kept in --out: run it again to go on, or with more arms,
    /// budgets or seeds. --acquisition and --budget take several values, separated by commas, and --rounds says in how many
    /// rounds a budget is spent. The rules: random, foreground-random, uga, uga-mean, entropy, entropy-foreground,
    /// entropy-border, entropy-top, bald, kl, variance, monai-variance, margin, least-confidence, clasp-pe, power-bald,
    /// soft-rank-bald, stochastic-batches, k-means, farthest-first, typiclust, max-herding, two-stage, class-error, and full,
    /// which learns from all fields that are not held out, in up to ten times as many steps. --vary tries the rules that
    /// --acquisition names also with other settings of the plan, one at a time. Of --plan a comparison takes everything but
    /// seed, rounds, score, budget and gate: it measures every generation.
    Compare {
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
        /// What computes: auto, cpu, onnx, cuda:N, or in a program built with it libtorch.
        #[arg(long, default_value_t = Device::Auto)]
        device: Device,
    },
    /// Active learning on pictures with masks, in the words of MONAI's tutorial.
    ///
    /// One network learns from an initial pool of pictures; after each training a strategy asks for more by how unsure the
    /// network is of them, in passes of Monte Carlo dropout, and training goes on. Beside the strategies one network learns
    /// from all pictures at once. A fifth of the pictures is for validation, which chooses the best network of a
    /// training, and a fifth for the test. What is finished is kept in --out, with the pools as JSON: run it again to go on,
    /// or with more iterations or strategies.
    ActiveLearning {
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
    },
    /// Draws centres with rare tumour, to compare acquisition rules on.
    ///
    /// Five centres in the shape of Camelyon17: slides with no tumour, with isolated tumour cells (clusters under 0.2 mm),
    /// with micrometastases (0.2 to 2 mm) and with macrometastases (over 2 mm), in equal numbers, and benign areas that
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

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// An experiment with its report.
    Experiment(Box<Options>),
    /// A comparison of acquisition rules.
    Compare(Box<CompareOptions>),
    /// The report of a comparison's folder again, or a summary's figures.
    Render(PathBuf),
    /// Active learning on one folder.
    ActiveLearning(Box<ActiveOptions>),
    /// A big slide.
    Mosaic(MosaicOptions),
    /// Centres with rare tumour.
    Draw(DrawOptions),
}

#[derive(Debug, Args)]
struct Choices {
    /// Folder for the report and the figures.
    #[arg(long, value_name = "DIR", default_value = "consilium-demo", global = true)]
    out: PathBuf,
    /// Seed of everything random: the same seed gives the same metrics.json.
    #[arg(long, value_name = "N", global = true)]
    seed: Option<u64>,
    /// Sites that take part, the central one included [default: 5, or all folders].
    #[arg(long, value_name = "N", global = true)]
    sites: Option<usize>,
    /// Rounds of learning [default: 3; to compare: 1].
    #[arg(long, value_name = "N", global = true)]
    rounds: Option<u32>,
    /// Patches that each site is asked to correct in a round [default: 5; to compare: 5,10].
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

/// The seed when none is given.
const SEED: u64 = 1;

fn score(text: &str) -> Result<Score, clap::Error> {
    Score::named(text).ok_or_else(|| {
        let names = Score::ALL.map(Score::name).join(", ");
        wrong(ErrorKind::InvalidValue, &format!("--acquisition {text}: use one of {names}"))
    })
}

fn wrong(kind: ErrorKind, why: &str) -> clap::Error {
    Cli::command().error(kind, why)
}

impl Choices {
    /// Refuses what means nothing where there is no federation.
    fn only_for_federations(&self) -> Result<(), clap::Error> {
        let given = [
            ("--sites", self.sites.is_some()),
            ("--rounds", self.rounds.is_some()),
            ("--budget", !self.budget.is_empty()),
            ("--acquisition", !self.acquisition.is_empty()),
            ("--members", self.members.is_some()),
            ("--quick", self.quick),
            ("--keep", self.keep),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => {
                let why = format!("{name} means nothing to active-learning; see its own --help");
                Err(wrong(ErrorKind::ArgumentConflict, &why))
            }
            None => Ok(()),
        }
    }
}

impl Cli {
    /// What is to be done.
    ///
    /// # Errors
    /// Options that do not go together, or a value that a command does not take.
    pub fn action(self) -> Result<Action, clap::Error> {
        let choices = self.choices;
        let source = match self.command {
            None => Source::Drawn,
            Some(Command::Run { data, central }) => Source::Folders { data, central },
            Some(Command::Compare { data, central, seeds, folds, vary, device }) => {
                let budgets = if choices.budget.is_empty() { vec![5, 10] } else { choices.budget };
                return Ok(Action::Compare(Box::new(CompareOptions {
                    data,
                    central,
                    out: choices.out,
                    acquisition: choices.acquisition,
                    vary,
                    budgets,
                    rounds: choices.rounds.unwrap_or(1),
                    seed: choices.seed.unwrap_or(SEED),
                    seeds,
                    sites: choices.sites,
                    folds,
                    members: choices.members,
                    quick: choices.quick,
                    plan: choices.plan,
                    device,
                })));
            }
            Some(Command::ActiveLearning {
                data,
                active_iters,
                initial_pool,
                queries,
                strategy: strategies,
                mc_number,
                dropout_ratio,
                steps,
                val_interval,
                device,
            }) => {
                choices.only_for_federations()?;
                let (out, seed, plan) = (choices.out, choices.seed, choices.plan);
                return Ok(Action::ActiveLearning(Box::new(ActiveOptions {
                    data,
                    out,
                    seed,
                    active_iters,
                    initial_pool,
                    queries,
                    strategies,
                    mc_number,
                    dropout_ratio,
                    steps,
                    val_interval,
                    plan,
                    device,
                })));
            }
            Some(Command::Draw { slides }) => {
                let (out, seed) = (choices.out, choices.seed.unwrap_or(SEED));
                let sites = choices.sites.unwrap_or(SITES);
                return Ok(Action::Draw(DrawOptions { out, seed, sites, slides }));
            }
            Some(Command::Render { from }) => return Ok(Action::Render(from)),
            Some(Command::Mosaic { fields, width, height, glass, mask }) => {
                let (out, seed) = (choices.out, choices.seed.unwrap_or(SEED));
                return Ok(Action::Mosaic(MosaicOptions { fields, width, height, out, mask, seed, glass }));
            }
        };
        Ok(Action::Experiment(Box::new(experiment(source, choices)?)))
    }
}

/// The choices as options of an experiment. The seed of a plan file counts for the data, too.
fn experiment(source: Source, choices: Choices) -> Result<Options, clap::Error> {
    let given = [
        choices.seed.is_some(),
        choices.rounds.is_some(),
        choices.members.is_some(),
        !choices.budget.is_empty(),
        !choices.acquisition.is_empty(),
    ];
    if choices.plan.is_some() && given.contains(&true) {
        let why = "--plan holds seed, rounds, budget, acquisition and members; change them there";
        return Err(wrong(ErrorKind::ArgumentConflict, why));
    }
    if choices.budget.len() > 1 || choices.acquisition.len() > 1 {
        return Err(wrong(ErrorKind::TooManyValues, "several values of --budget or --acquisition are for `compare`"));
    }
    Ok(Options {
        source,
        out: choices.out,
        seed: choices.seed.unwrap_or(SEED),
        sites: choices.sites,
        rounds: choices.rounds,
        budget: choices.budget.first().copied(),
        acquisition: choices.acquisition.first().map(|word| score(word)).transpose()?,
        members: choices.members,
        quick: choices.quick,
        plan: choices.plan,
        keep: choices.keep,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help() {
        insta::assert_snapshot!("help", Cli::command().term_width(100).render_long_help().to_string());
    }

    #[test]
    fn options_go_before_and_after_the_command() {
        let parse = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' '))?;
            match cli.action()? {
                Action::Experiment(options) => Ok::<_, clap::Error>(*options),
                other => panic!("{other:?}"),
            }
        };
        let options = parse("x run --data d --central c --seed 3 --acquisition random --quick").unwrap();
        assert_eq!(options.source, Source::Folders { data: "d".into(), central: "c".into() });
        assert_eq!((options.seed, options.acquisition, options.quick), (3, Some(Score::Random), true));
        assert_eq!(parse("x --sites 3").unwrap().sites, Some(3));
        let wrong = parse("x --acquisition best").unwrap_err().to_string();
        assert!(wrong.contains("uga-mean"), "{wrong}");
        assert!(parse("x --plan p.toml --rounds 2").is_err());
        assert!(parse("x --budget 5,10").unwrap_err().to_string().contains("compare"));
    }

    #[test]
    fn a_mosaic_has_a_size_and_a_place() {
        let line = "x mosaic --fields f --width 900 --height 800 --out a/s.tif --seed 4 --glass 0.25";
        let action = Cli::try_parse_from(line.split(' ')).unwrap().action().unwrap();
        let (fields, out) = ("f".into(), "a/s.tif".into());
        let expected = MosaicOptions { fields, width: 900, height: 800, out, mask: None, seed: 4, glass: 0.25 };
        assert_eq!(action, Action::Mosaic(expected));
        assert!(Cli::try_parse_from("x mosaic --fields f".split(' ')).is_err());
    }

    #[test]
    fn centres_are_drawn_with_a_seed_and_numbers() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().action().unwrap();
        let expected = DrawOptions { out: "d".into(), seed: 9, sites: 3, slides: 8 };
        assert_eq!(parse("x draw --out d --seed 9 --sites 3 --slides 8"), Action::Draw(expected));
        let usual = DrawOptions { out: "d".into(), seed: SEED, sites: 5, slides: 8 };
        assert_eq!(parse("x draw --out d"), Action::Draw(usual));
    }

    #[test]
    fn active_learning_has_the_words_of_its_model() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().action();
        let line = "x active-learning --data d --active-iters 3 --initial-pool 4 --queries 2 --strategy random,bald \
                    --mc-number 5 --dropout-ratio 0.3 --steps 30 --val-interval 7 --seed 9 --out o";
        let Action::ActiveLearning(options) = parse(line).unwrap() else { panic!("another action") };
        assert_eq!((options.active_iters, options.initial_pool, options.queries, options.mc_number), (3, 4, 2, 5));
        assert_eq!((options.steps, options.val_interval, options.seed), (Some(30), 7, Some(9)));
        assert_eq!(options.strategies, [Strategy::Random, Strategy::Bald]);
        let error = parse("x active-learning --data d --members 3").unwrap_err();
        assert!(error.to_string().contains("--members means nothing"), "{error}");
    }

    #[test]
    fn a_report_is_of_a_folder() {
        let action = Cli::try_parse_from(["x", "render", "d"]).unwrap().action().unwrap();
        assert_eq!(action, Action::Render("d".into()));
        assert!(Cli::try_parse_from(["x", "render"]).is_err());
    }

    #[test]
    fn a_comparison_takes_lists() {
        let line =
            "x compare --data d --central c --acquisition entropy,bald --budget 0,5 --rounds 2 --seeds 3 --plan p.toml";
        let Action::Compare(options) = Cli::try_parse_from(line.split(' ')).unwrap().action().unwrap() else {
            panic!("another action");
        };
        assert_eq!((options.acquisition.len(), &options.budgets[..], options.rounds), (2, &[0, 5][..], 2));
        assert_eq!((options.seeds, options.folds, options.plan), (3, 2, Some("p.toml".into())));
    }
}
