//! What a command line asks for, and which options mean something to which command.

use std::path::PathBuf;

use clap::CommandFactory;
use clap::error::ErrorKind;
use consilium_common::plan::Score;

use super::{ActiveArgs, Choices, Cli, Command, CompareArgs};
use crate::active::ActiveOptions;
use crate::compare::CompareOptions;
use crate::experiment::{Options, Source};
use crate::mosaic::MosaicOptions;
use crate::rare::{DrawOptions, SITES};

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

/// The seed when none is given.
const SEED: u64 = 1;
/// The folder when none is given.
const OUT: &str = "consilium-demo";

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
    /// Refuses what was given and means nothing to a command, but for those of its names in `known`.
    fn only(&self, command: &str, known: &[&str]) -> Result<(), clap::Error> {
        // Without `..`, so that an option that is added must be named here.
        let Self { out, seed, sites, rounds, budget, acquisition, members, quick, plan, keep } = self;
        let given = [
            ("--out", out.is_some()),
            ("--seed", seed.is_some()),
            ("--sites", sites.is_some()),
            ("--rounds", rounds.is_some()),
            ("--budget", !budget.is_empty()),
            ("--acquisition", !acquisition.is_empty()),
            ("--members", members.is_some()),
            ("--quick", *quick),
            ("--plan", plan.is_some()),
            ("--keep", *keep),
        ];
        match given.into_iter().find(|(name, given)| *given && !known.contains(name)) {
            Some((name, _)) => {
                let why = format!("{name} means nothing to {command}; see its own --help");
                Err(wrong(ErrorKind::ArgumentConflict, &why))
            }
            None => Ok(()),
        }
    }

    /// Refuses --quick with a plan of one's own, where it would change nothing.
    fn quick_plan(&self) -> Result<(), clap::Error> {
        match self.quick && self.plan.is_some() {
            true => {
                Err(wrong(ErrorKind::ArgumentConflict, "--quick is for the built-in plan; ask less in your --plan"))
            }
            false => Ok(()),
        }
    }

    fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| OUT.into())
    }
}

impl Cli {
    /// What is to be done.
    ///
    /// # Errors
    /// Options that do not go together, or a value that a command does not take.
    pub fn action(self) -> Result<Action, clap::Error> {
        let choices = self.choices;
        let (out, seed) = (choices.out(), choices.seed.unwrap_or(SEED));
        Ok(match self.command {
            None => Action::Experiment(Box::new(experiment(Source::Drawn, choices)?)),
            Some(Command::Run { data, central }) => {
                Action::Experiment(Box::new(experiment(Source::Folders { data, central }, choices)?))
            }
            Some(Command::Compare(own)) => {
                let known = &[
                    "--out",
                    "--seed",
                    "--sites",
                    "--rounds",
                    "--budget",
                    "--acquisition",
                    "--members",
                    "--quick",
                    "--plan",
                ];
                choices.only("compare", known)?;
                choices.quick_plan()?;
                Action::Compare(Box::new(comparison(own, choices)))
            }
            Some(Command::ActiveLearning(own)) => {
                choices.only("active-learning", &["--out", "--seed", "--plan"])?;
                Action::ActiveLearning(Box::new(active(own, choices)))
            }
            Some(Command::Draw { slides }) => {
                choices.only("draw", &["--out", "--seed", "--sites"])?;
                Action::Draw(DrawOptions { out, seed, sites: choices.sites.unwrap_or(SITES), slides })
            }
            Some(Command::Render { from }) => {
                choices.only("render", &[])?;
                Action::Render(from)
            }
            Some(Command::Mosaic { fields, width, height, glass, mask }) => {
                choices.only("mosaic", &["--out", "--seed"])?;
                Action::Mosaic(MosaicOptions { fields, width, height, out, mask, seed, glass })
            }
        })
    }
}

fn comparison(own: CompareArgs, choices: Choices) -> CompareOptions {
    CompareOptions {
        out: choices.out(),
        data: own.data,
        central: own.central,
        acquisition: choices.acquisition,
        vary: own.vary,
        budgets: if choices.budget.is_empty() { vec![5, 10] } else { choices.budget },
        rounds: choices.rounds.unwrap_or(1),
        cold: own.cold,
        seed: choices.seed.unwrap_or(SEED),
        seeds: own.seeds,
        sites: choices.sites,
        folds: own.folds,
        members: choices.members,
        quick: choices.quick,
        plan: choices.plan,
        device: own.device,
    }
}

fn active(own: ActiveArgs, choices: Choices) -> ActiveOptions {
    ActiveOptions {
        out: choices.out(),
        data: own.data,
        seed: choices.seed,
        active_iters: own.active_iters,
        initial_pool: own.initial_pool,
        queries: own.queries,
        strategies: own.strategy,
        mc_number: own.mc_number,
        dropout_ratio: own.dropout_ratio,
        steps: own.steps,
        val_interval: own.val_interval,
        plan: choices.plan,
        device: own.device,
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
    // Slides that are drawn are fewer, whatever the plan.
    if source != Source::Drawn {
        choices.quick_plan()?;
    }
    Ok(Options {
        source,
        out: choices.out(),
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
    use clap::Parser;

    use super::*;
    use crate::active::Strategy;

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
        assert!(error.to_string().contains("--members means nothing to active-learning"), "{error}");
    }

    #[test]
    fn a_report_is_of_a_folder() {
        let action = Cli::try_parse_from(["x", "render", "d"]).unwrap().action().unwrap();
        assert_eq!(action, Action::Render("d".into()));
        assert!(Cli::try_parse_from(["x", "render"]).is_err());
    }

    #[test]
    fn what_means_nothing_to_a_command_is_refused() {
        let said = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().action().unwrap_err().to_string();
        assert!(said("x render d --out o").contains("--out means nothing to render"));
        assert!(said("x draw --budget 5").contains("--budget means nothing to draw"));
        assert!(said("x compare --data d --central c --keep").contains("--keep means nothing to compare"));
        assert!(said("x mosaic --fields f --width 9 --height 9 --plan p").contains("--plan means nothing to mosaic"));
        assert!(said("x compare --data d --central c --quick --plan p").contains("--quick is for the built-in plan"));
        assert!(said("x run --data d --central c --quick --plan p").contains("--quick is for the built-in plan"));
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
