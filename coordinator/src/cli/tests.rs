use clap::CommandFactory;
use consilium_common::messages::{Stage, UpdateMetrics};
use consilium_common::{Digest, GenerationNumber, RoundNumber, Timestamp};

use super::*;
use crate::view::{GenerationView, SiteEvaluation, SiteProgress, StudySummary, StudyView, UpdateView};

fn help(path: &[&str]) -> String {
    let mut root = Cli::command().term_width(100);
    root.build();
    let page = path.iter().fold(&mut root, |command, name| command.find_subcommand_mut(name).unwrap());
    page.render_help().to_string()
}

#[test]
fn help_reads_well() {
    let pages = [
        &[][..],
        &["init"],
        &["serve"],
        &["site"],
        &["site", "invite"],
        &["site", "revoke"],
        &["study"],
        &["study", "create"],
        &["study", "status"],
        &["study", "export"],
    ];
    let text: Vec<_> = pages.iter().map(|path| format!("## {}\n{}", path.join(" "), help(path))).collect();
    insta::assert_snapshot!("help", text.join("\n"));
}

#[test]
fn a_status_says_for_whom_it_waits() {
    let now = Timestamp(1_800_000_000_000);
    let ago = |seconds: i64| Timestamp(now.0 - seconds * 1000);
    let site = |name: &str, answered: &str, stage, seen| SiteProgress {
        site: name.parse().unwrap(),
        joined: true,
        answered: answered.into(),
        stage,
        last_seen: seen,
    };
    let said = |round, name: &str, asked, control_dice| UpdateView {
        round: RoundNumber(round),
        site: name.parse().unwrap(),
        weight: 1.0,
        metrics: UpdateMetrics {
            patches_corrected: 10,
            patches_trained: 8,
            dice_before_correction: asked,
            control_dice,
            loss_first: 0.75,
            loss_last: 0.5,
            ..UpdateMetrics::default()
        },
    };
    let view = StudyView {
        summary: StudySummary {
            study: "tumour".parse().unwrap(),
            title: "Tumour in five hospitals".into(),
            phase: "collecting".into(),
            round: RoundNumber(2),
            rounds: 3,
            generation: GenerationNumber(1),
            waiting_for: "updates of round 2: 1 of 2 are in (quorum 2), missing hospital-b".into(),
            since: ago(3 * 86_400),
        },
        plan: Digest::of(b"plan"),
        sites: vec![
            site("hospital-a", "update", None, Some(ago(30))),
            site("hospital-b", "", Some((Stage::Correct, 3, 10)), Some(ago(7_500))),
            site("hospital-c", "", None, None),
        ],
        generations: vec![GenerationView {
            generation: GenerationNumber(0),
            manifest: Digest::of(b"manifest"),
            round: RoundNumber(0),
            evaluations: vec![
                SiteEvaluation { site: "hospital-a".parse().unwrap(), slides: 2, mean_dice: Some(0.5), ece: None },
                SiteEvaluation { site: "hospital-b".parse().unwrap(), slides: 0, mean_dice: None, ece: None },
            ],
        }],
        updates: vec![
            said(1, "hospital-a", Some(0.5), Some(0.625)),
            said(1, "hospital-b", Some(0.25), None),
            said(1, "hospital-c", Some(0.375), Some(0.875)),
            said(2, "hospital-a", Some(0.5), None),
            said(2, "hospital-b", Some(0.75), None),
            said(2, "hospital-c", None, None),
        ],
        rejected: vec![(RoundNumber(1), "Dice falls by more than 0.02: hospital-a fell from 0.500 to 0.400".into())],
        outcome: String::new(),
    };
    insta::assert_snapshot!("status", table::study(&view, now));
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}
