//! Tables and times as people read them. Pure: the same view gives the same text.

use comfy_table::{ContentArrangement, Table, presets};
use consilium_common::Timestamp;
use consilium_common::messages::Stage;

use crate::view::{GenerationView, SiteProgress, StudySummary, StudyView, UpdateView};

/// One row.
pub(super) type Cells = Vec<String>;

/// A table with this heading.
pub(super) fn render(heading: &[&str], rows: impl IntoIterator<Item = Cells>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.iter().map(|cell| (*cell).to_owned()).collect::<Cells>());
    for row in rows {
        table.add_row(row);
    }
    table.trim_fmt()
}

/// The day and minute of a moment, UTC.
pub(super) fn day(at: Timestamp) -> String {
    let shown = jiff::Timestamp::from_millisecond(at.0).map(|t| t.strftime("%Y-%m-%d %H:%M UTC").to_string());
    shown.unwrap_or_else(|_| "an impossible time".into())
}

/// How long ago, in the largest unit that fits.
pub(super) fn ago(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "never".into(), |at| format!("{} ago", span(now.seconds_since(at))))
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A study with its sites, generations, corrections and rejected rounds.
pub(super) fn study(view: &StudyView, now: Timestamp) -> String {
    let s = &view.summary;
    let mut parts = vec![format!(
        "study {}: {}\n  phase       {}\n  round       {} of {}\n  generation  {}\n  waits for   {}, since {} ({})",
        s.study,
        s.title,
        s.phase,
        s.round,
        s.rounds,
        if view.generations.is_empty() { "none published yet".into() } else { s.generation.to_string() },
        s.waiting_for,
        day(s.since),
        ago(Some(s.since), now),
    )];
    if view.has_ended() {
        parts[0].push_str(&format!("\n  outcome     {}", view.outcome));
    }
    if !view.sites.is_empty() {
        let rows = view.sites.iter().map(|site| site_row(site, now));
        parts.push(render(&["site", "joined", "answered", "doing", "last seen"], rows));
    }
    if !view.generations.is_empty() {
        let rows = view.generations.iter().map(generation_row);
        parts.push(render(&["generation", "round", "mean Dice", "by site", "manifest"], rows));
    }
    if !view.updates.is_empty() {
        let rows = view.updates.chunk_by(|a, b| a.round == b.round).map(round_row);
        let by_site = "by site: corrected, Dice asked, control";
        parts.push(render(&["round", "corrected", "mean Dice asked", "mean control", by_site], rows));
    }
    for (round, reason) in &view.rejected {
        parts.push(format!("round {round} published nothing: {reason}"));
    }
    parts.join("\n\n")
}

fn site_row(site: &SiteProgress, now: Timestamp) -> Cells {
    let doing = site.stage.map_or_else(|| "-".into(), |(stage, done, total)| progress(stage, done, total));
    let answered = if site.answered.is_empty() { "-" } else { &site.answered };
    let joined = if site.joined { "yes" } else { "no" };
    vec![site.site.to_string(), joined.into(), answered.into(), doing, ago(site.last_seen, now)]
}

fn progress(stage: Stage, done: u64, total: u64) -> String {
    let name = match stage {
        Stage::Download => "download",
        Stage::Scan => "scan",
        Stage::Select => "select",
        Stage::Correct => "correct",
        Stage::FineTune => "fine-tune",
        Stage::Upload => "upload",
        Stage::Evaluate => "evaluate",
    };
    match (done, total) {
        (0, 0) => name.into(),
        (_, 0) => format!("{name} {done}"),
        _ => format!("{name} {done}/{total}"),
    }
}

fn generation_row(generation: &GenerationView) -> Cells {
    let mean = shown(mean_dice(generation.evaluations.iter().filter_map(|e| e.mean_dice)));
    let by_site = generation.evaluations.iter().map(|e| format!("{} {}", e.site, shown(e.mean_dice)));
    let by_site = by_site.collect::<Vec<_>>().join(", ");
    vec![generation.generation.to_string(), generation.round.to_string(), mean, by_site, generation.manifest.short()]
}

/// A round by what was corrected in it. Its Dice are those of the generation before it, over the patches that the rule asked
/// for and over those drawn at random, which are among the corrected; where sites have both, the means are over those.
fn round_row(updates: &[UpdateView]) -> Cells {
    let dices = |update: &UpdateView| (update.metrics.dice_before_correction, update.metrics.control_dice);
    let by_site = updates.iter().map(|update| {
        let (asked, control) = dices(update);
        format!("{} {}, {}, {}", update.site, update.metrics.patches_corrected, shown(asked), shown(control))
    });
    let by_site = by_site.collect::<Vec<_>>().join("; ");
    let corrected: u64 = updates.iter().map(|update| u64::from(update.metrics.patches_corrected)).sum();
    let all: Vec<_> = updates.iter().map(dices).collect();
    let both: Vec<_> = all.iter().copied().filter(|(asked, control)| asked.and(*control).is_some()).collect();
    let counted = if both.is_empty() { all } else { both };
    let asked = mean_dice(counted.iter().filter_map(|dices| dices.0));
    let control = mean_dice(counted.iter().filter_map(|dices| dices.1));
    let round = updates.first().map_or_else(String::new, |update| update.round.to_string());
    vec![round, corrected.to_string(), shown(asked), shown(control), by_site]
}

fn mean_dice(dices: impl Iterator<Item = f64>) -> Option<f64> {
    let dices: Vec<f64> = dices.collect();
    (!dices.is_empty()).then(|| dices.iter().sum::<f64>() / dices.len() as f64)
}

fn shown(dice: Option<f64>) -> String {
    dice.map_or_else(|| "-".into(), |dice| format!("{dice:.3}"))
}

/// All studies, one line each.
pub(super) fn studies(studies: &[StudySummary], now: Timestamp) -> String {
    let rows = studies.iter().map(|s| -> Cells {
        let round = format!("{}/{}", s.round, s.rounds);
        let waits = format!("{} ({})", s.waiting_for, ago(Some(s.since), now));
        vec![s.study.to_string(), s.phase.clone(), round, s.generation.to_string(), waits]
    });
    render(&["study", "phase", "round", "generation", "waits for"], rows)
}
