//! The command line: parsing and help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use consilium_common::plan::Score;

use crate::experiment::{Options, Source};
use crate::mosaic::MosaicOptions;

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
    /// A big slide.
    Mosaic(MosaicOptions),
}

#[derive(Debug, Args)]
struct Choices {
    /// Folder for the report and the figures.
    #[arg(long, value_name = "DIR", default_value = "consilium-demo", global = true)]
    out: PathBuf,
    /// Seed of everything random: the same seed gives the same metrics.json.
    #[arg(long, value_name = "N", global = true, conflicts_with = "plan")]
    seed: Option<u64>,
    /// Sites that take part, the central one included [default: 5, or all folders].
    #[arg(long, value_name = "N", global = true)]
    sites: Option<usize>,
    /// Rounds of learning [default: 3].
    #[arg(long, value_name = "N", global = true, conflicts_with = "plan")]
    rounds: Option<u32>,
    /// Patches that each site is asked to correct in a round [default: 5].
    #[arg(long, value_name = "K", global = true, conflicts_with = "plan")]
    budget: Option<u32>,
    /// How patches are chosen [default: mean-uncertainty].
    #[arg(long, value_name = "RULE", global = true, conflicts_with = "plan", value_parser = score,
          help = "How patches are chosen: uga, mean-uncertainty, mean-entropy or random [default: mean-uncertainty]")]
    acquisition: Option<Score>,
    /// Networks in the ensemble [default: 5].
    #[arg(long, value_name = "M", global = true, conflicts_with = "plan")]
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

fn score(text: &str) -> Result<Score, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| "use uga, mean-uncertainty, mean-entropy or random".to_owned())
}

impl Cli {
    /// What is to be done.
    pub fn action(self) -> Action {
        let choices = self.choices;
        let source = match self.command {
            None => Source::Drawn,
            Some(Command::Run { data, central }) => Source::Folders { data, central },
            Some(Command::Mosaic { fields, width, height, glass, mask }) => {
                let (out, seed) = (choices.out, choices.seed.unwrap_or(SEED));
                return Action::Mosaic(MosaicOptions { fields, width, height, out, mask, seed, glass });
            }
        };
        Action::Experiment(Box::new(experiment(source, choices)))
    }
}

/// The choices as options of an experiment. The seed of a plan file counts for the data, too.
fn experiment(source: Source, choices: Choices) -> Options {
    Options {
        source,
        out: choices.out,
        seed: choices.seed.unwrap_or(SEED),
        sites: choices.sites,
        rounds: choices.rounds,
        budget: choices.budget,
        acquisition: choices.acquisition,
        members: choices.members,
        quick: choices.quick,
        plan: choices.plan,
        keep: choices.keep,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn help() {
        insta::assert_snapshot!("help", Cli::command().term_width(100).render_long_help().to_string());
    }

    #[test]
    fn options_go_before_and_after_the_command() {
        let parse = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' '))?;
            match cli.action() {
                Action::Experiment(options) => Ok::<_, clap::Error>(*options),
                Action::Mosaic(other) => panic!("{other:?}"),
            }
        };
        let options = parse("x run --data d --central c --seed 3 --acquisition random --quick").unwrap();
        assert_eq!(options.source, Source::Folders { data: "d".into(), central: "c".into() });
        assert_eq!((options.seed, options.acquisition, options.quick), (3, Some(Score::Random), true));
        assert_eq!(parse("x --sites 3").unwrap().sites, Some(3));
        let wrong = parse("x --acquisition best").unwrap_err().to_string();
        assert!(wrong.contains("mean-uncertainty"), "{wrong}");
        assert!(parse("x --plan p.toml --rounds 2").is_err());
    }

    #[test]
    fn a_mosaic_has_a_size_and_a_place() {
        let line = "x mosaic --fields f --width 900 --height 800 --out a/s.tif --seed 4 --glass 0.25";
        let action = Cli::try_parse_from(line.split(' ')).unwrap().action();
        let (fields, out) = ("f".into(), "a/s.tif".into());
        let expected = MosaicOptions { fields, width: 900, height: 800, out, mask: None, seed: 4, glass: 0.25 };
        assert_eq!(action, Action::Mosaic(expected));
        assert!(Cli::try_parse_from("x mosaic --fields f".split(' ')).is_err());
    }
}
