//! The page: self-contained HTML with the figures inline, readable in light and dark, fit to print.

use std::fmt::Write as _;

use consilium_common::plan::Score;

use super::chart_scatter::{pairs, signed};
use super::contact_sheet::jpeg;
use super::control::control;
use super::stats::spearman;
use super::svg::{data_uri, escape};
use super::{Figures, ReportError, Story};
use crate::experiment::Metrics;

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(crate) fn page(story: &Story, figures: &Figures) -> Result<String, ReportError> {
    let mut body = String::new();
    head(&mut body, story);
    tiles(&mut body, story);
    section(&mut body, "How well it segments", &[dice_text(story)]);
    figure(&mut body, &figures.dice, DICE_CAPTION);
    table(&mut body, story);
    section(&mut body, "The hospitals", &[centres_text(story)]);
    centres(&mut body, story)?;
    if let Some(sheet) = &figures.patches {
        section(&mut body, "What the pathologists were asked", &[patches_text(story)]);
        figure(&mut body, sheet, PATCHES_CAPTION);
    }
    section(&mut body, "Does the ensemble know where it is wrong?", &[scatter_text(story)]);
    figure(&mut body, &figures.scatter, SCATTER_CAPTION);
    control(&mut body, &story.metrics);
    section(&mut body, "Where the time went", &[time_text(story)]);
    figure(
        &mut body,
        &figures.time,
        "Seconds on this machine; the only figures of this report that change from run to run.",
    );
    settings(&mut body, story);
    section(&mut body, "To do it again", &[reproduce_text(story)]);
    let _ = write!(body, "<pre>{}</pre>", escape(&story.command));
    section(&mut body, "What this shows, and what it does not", &limits_text(story));
    let _ = write!(
        body,
        "<footer>Consilium {} · plan {} · seed {}</footer>",
        env!("CARGO_PKG_VERSION"),
        story.metrics.plan.short(),
        story.metrics.seed
    );
    Ok(page_of(&story.plan.title, &body))
}

/// A page that needs nothing beside it.
pub(crate) fn page_of(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{body}\n</main>\n</body>\n</html>\n",
        escape(title)
    )
}

const DICE_CAPTION: &str = "Dice on slides that nobody learned from: 1 is a perfect outline, 0 a miss. The bold line is \
    the mean over the other hospitals; the central one's own line is dashed.";
const PATCHES_CAPTION: &str = "For each hospital, the least certain patch of its first and of its last round: the \
    tissue, what the ensemble drew, where it was unsure, and the correction. Under each: mean uncertainty, and Dice of \
    the drawing before it was corrected.";
const SCATTER_CAPTION: &str = "Every patch that was asked for. Only asked patches have a correction, and under most rules \
    they are uncertain ones, so the range to the left is thin and the correlation is weaker than over whole slides.";

pub(crate) fn section(body: &mut String, title: &str, paragraphs: &[String]) {
    let _ = writeln!(body, "<h2>{}</h2>", escape(title));
    for text in paragraphs {
        let _ = writeln!(body, "<p>{}</p>", escape(text));
    }
}

pub(crate) fn figure(body: &mut String, svg: &str, caption: &str) {
    let _ =
        writeln!(body, "<figure><div class=\"wide\">{svg}</div><figcaption>{}</figcaption></figure>", escape(caption));
}

/// `one` or `3`: small counts as words.
fn count(number: usize) -> String {
    const WORDS: [&str; 11] = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    WORDS.get(number).map_or_else(|| number.to_string(), |w| (*w).to_owned())
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn plural(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

fn head(body: &mut String, story: &Story) {
    let (plan, metrics) = (&story.plan, &story.metrics);
    let _ = writeln!(body, "<h1>{}</h1>", escape(&plan.title));
    let source = if story.drawn { "drawn slides" } else { "existing slides" };
    let rounds = plural(plan.rounds as usize, "round", "rounds");
    let sub = format!(
        "A simulated federation of {} hospitals on {source}, {rounds}, seed {}",
        count(metrics.sites.len()),
        metrics.seed
    );
    let _ = writeln!(body, "<p class=\"sub\">{}</p>", escape(&sub));
    let asked = match plan.acquisition.score {
        Score::Random => "picked at random in the tissue",
        Score::ForegroundRandom => "picked at random, most of them in what it calls foreground and at its border",
        Score::ClaspPe => "drawn by how unsure it was, most of them class by class",
        _ => "where it was least sure",
    };
    let first = match plan.members {
        1 => "A single network".to_owned(),
        members => format!("An ensemble of {} networks", count(members)),
    };
    let (controls, learned) = match plan.acquisition.control_share > 0.0 {
        true => (", some of them at random, as controls", "on the corrections but the controls"),
        false => ("", "on the corrections"),
    };
    let lead = format!(
        "{} hospitals taught one model without showing each other a single image. {first} was first trained at {} alone. \
         Then, in each of {rounds}, every other hospital ran it over its own slides, had {} corrected, {asked}{controls}, \
         fine-tuned each network {learned}, and sent back nothing but weight differences, which a coordinator \
         averaged. {}",
        capital(&count(metrics.sites.len())),
        metrics.central,
        plural(plan.acquisition.budget as usize, "patch", "patches"),
        outcome(metrics),
    );
    let _ = writeln!(body, "<p class=\"lead\">{}</p>", escape(&lead));
    for rejected in &metrics.rejected {
        let text = format!("Round {} brought no new generation: {}", rejected.round, rejected.reason);
        let _ = writeln!(body, "<p>{}</p>", escape(&text));
    }
}

/// What came of it, in one sentence that the figures allow.
fn outcome(metrics: &Metrics) -> String {
    let Some((first, last)) = metrics.span() else {
        return "No site has held-out slides with foreground, so there is no Dice to report.".to_owned();
    };
    let change = if last > first + 0.005 {
        format!("rose from {first:.2} to {last:.2}")
    } else if last < first - 0.005 {
        format!("fell from {first:.2} to {last:.2}")
    } else {
        format!("stayed at {last:.2}")
    };
    let all = metrics.sites.iter().filter(|site| **site != metrics.central).count();
    let others = match metrics.mean_over.len() {
        n if n == all => format!("the {} other hospitals", count(n)),
        n => format!("the {} of {} other hospitals with figures for every generation", count(n), count(all)),
    };
    let at_home: Vec<f64> = metrics.generations.iter().filter_map(|g| g.sites.get(&metrics.central)).copied().collect();
    let home = at_home.first().zip(at_home.last()).map_or(String::new(), |(first, last)| {
        format!(" At the central one, {}, it went from {first:.2} to {last:.2}.", metrics.central)
    });
    format!("On slides that nobody learned from, mean Dice over {others} {change}.{home}")
}

fn tiles(body: &mut String, story: &Story) {
    let metrics = &story.metrics;
    let mut tiles = Vec::new();
    if let Some((first, last)) = metrics.span() {
        tiles.push((format!("{first:.2} → {last:.2}"), "mean Dice, first and last generation"));
        tiles.push((signed(last - first), "change of the mean"));
    }
    tiles.push((metrics.patches.len().to_string(), "patches corrected, all hospitals and rounds"));
    tiles.push((format!("{:.1} min", story.timing.total() / 60.0), "for the whole run on this machine"));
    body.push_str("<div class=\"tiles\">\n");
    for (value, what) in tiles {
        let _ = writeln!(body, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(&value), escape(what));
    }
    body.push_str("</div>\n");
}

fn dice_text(story: &Story) -> String {
    format!(
        "Generation 0 knows the stain and the scanner of one laboratory only, {}. Each further generation is the average \
         of what all hospitals learned in one round; the dashed line shows whether learning from the others cost \
         anything at home.",
        story.metrics.central
    )
}

fn table(body: &mut String, story: &Story) {
    let metrics = &story.metrics;
    body.push_str("<table><thead><tr><th>Dice by generation</th>");
    for generation in &metrics.generations {
        let _ = write!(body, "<th>{}</th>", generation.generation);
    }
    body.push_str("<th>change</th></tr></thead><tbody>\n");
    let mut row = |class: &str, name: &str, values: Vec<Option<f64>>| {
        let _ = write!(body, "<tr class=\"{class}\"><td>{}</td>", escape(name));
        for value in &values {
            let _ = write!(body, "<td>{}</td>", value.map_or("–".to_owned(), |v| format!("{v:.3}")));
        }
        let change = values.first().copied().flatten().zip(values.last().copied().flatten());
        let _ = writeln!(body, "<td>{}</td></tr>", change.map_or("–".to_owned(), |(a, b)| signed(b - a)));
    };
    for site in metrics.sites.iter().filter(|s| **s != metrics.central) {
        row("", site.as_str(), metrics.generations.iter().map(|g| g.sites.get(site).copied()).collect());
    }
    let others = format!("mean of {}", metrics.mean_over.len());
    row("mean", &others, metrics.generations.iter().map(|g| g.mean_dice).collect());
    let home = format!("{} (central)", metrics.central);
    row("central", &home, metrics.generations.iter().map(|g| g.sites.get(&metrics.central).copied()).collect());
    body.push_str("</tbody></table>\n");
}

fn centres_text(story: &Story) -> String {
    if story.drawn {
        "The slides are drawn by computer: stroma, glands, fat, vessels, lymphocytes and islands of tumour, with true \
         outlines of the tumour. Every hospital has its own staining habits, scanner colours, focus and noise, as real \
         laboratories do; that is why a model from one of them does worse at the others."
            .to_owned()
    } else {
        "One slide of each hospital as it is. Staining, scanner and organ differ from one to the next.".to_owned()
    }
}

fn centres(body: &mut String, story: &Story) -> Result<(), ReportError> {
    body.push_str("<div class=\"centres\">");
    for centre in &story.centres {
        let uri = data_uri(&jpeg(&centre.thumbnail)?);
        let role = if centre.site == story.metrics.central { "central; " } else { "" };
        let name = escape(centre.site.as_str());
        let _ = writeln!(
            body,
            "<figure><img src=\"{uri}\" alt=\"A slide of {name}\"><figcaption><b>{name}</b>{role}{} to learn from, {} \
             held out</figcaption></figure>",
            centre.learn, centre.test
        );
    }
    body.push_str("</div>\n");
    Ok(())
}

fn patches_text(story: &Story) -> String {
    let patch = &story.plan.acquisition;
    let side = f64::from(patch.patch_px) * story.plan.task.spacing_um.um_per_px();
    let central = &story.metrics.central;
    let asked_home = story.metrics.patches.iter().any(|p| p.site == *central);
    let home = if asked_home {
        String::new()
    } else {
        format!(" {} is asked for nothing: its slides are outlined in full already.", capital(central.as_str()))
    };
    format!(
        "In each round a hospital's pathologist gets at most {} of {side:.0} µm a side and corrects the ensemble's \
         drawing there. In this run the corrector is an oracle that reads the reference outline.{home}",
        plural(patch.budget as usize, "square patch", "square patches")
    )
}

fn scatter_text(story: &Story) -> String {
    let pairs = pairs(&story.metrics);
    match spearman(&pairs) {
        None => "There are too few corrected patches with foreground to say.".to_owned(),
        Some(rho) => {
            let reading = if rho <= -0.5 {
                "the less sure the ensemble was, the worse its drawing: its doubt is a good guide"
            } else if rho <= -0.2 {
                "where the ensemble was less sure its drawing tended to be worse"
            } else if rho < 0.2 {
                "among the patches asked for, more or less doubt says little about the quality of the drawing"
            } else {
                "among the patches asked for, those with more doubt were drawn better, not worse"
            };
            format!(
                "Spearman's rank correlation of uncertainty and Dice over {} patches is {}: {reading}.",
                pairs.len(),
                signed(rho)
            )
        }
    }
}

fn time_text(story: &Story) -> String {
    format!(
        "The whole run took {:.1} minutes. All hospitals share this machine's processor here, so a hospital's scan or \
         fine-tuning takes longer than it would alone.",
        story.timing.total() / 60.0
    )
}

fn settings(body: &mut String, story: &Story) {
    let plan = &story.plan;
    section(body, "Settings", &[]);
    let training = |t: &consilium_common::plan::Training| {
        format!(
            "{} steps of {} patches of {} px, learning rate {}",
            t.iterations, t.batch_size, t.patch_px, t.learning_rate
        )
    };
    let features: Vec<String> = plan.architecture.features.iter().map(ToString::to_string).collect();
    let acquisition = &plan.acquisition;
    let score = serde_json::to_value(acquisition.score).ok().and_then(|v| v.as_str().map(str::to_owned));
    let rows = [
        ("Classes", plan.task.classes.join(", ")),
        ("Spacing", plan.task.spacing_um.to_string()),
        ("Network", format!("PlainConvUNet, features {}, {} members", features.join(" "), plan.members)),
        ("First training", training(&plan.initial_training)),
        (
            "Acquisition",
            format!(
                "{}, {} patches of {} px per hospital and round",
                score.unwrap_or_default(),
                acquisition.budget,
                acquisition.patch_px
            ),
        ),
        ("Fine-tuning", training(&plan.fine_tuning)),
        ("Rounds", plan.rounds.to_string()),
        ("Plan digest", story.metrics.plan.to_string()),
    ];
    body.push_str("<table><tbody>\n");
    for (name, value) in rows {
        let cell = "style=\"text-align:left;word-break:break-word\"";
        let _ = writeln!(body, "<tr><td>{}</td><td {cell}>{}</td></tr>", escape(name), escape(&value));
    }
    let toml = plan.to_toml().unwrap_or_default();
    let _ = write!(
        body,
        "</tbody></table>\n<details><summary>The whole plan, plan.toml</summary><pre>{}</pre></details>\n",
        escape(&toml)
    );
}

fn reproduce_text(story: &Story) -> String {
    let data = if story.drawn { "" } else { " on the same data" };
    format!(
        "The same command{data} with the same seed gives the same metrics.json, byte for byte. Times are kept apart, in \
         timing.json; metrics.csv holds the figures of the table, and figures/ every chart as PNG."
    )
}

fn limits_text(story: &Story) -> Vec<String> {
    let material = if story.drawn {
        "Drawn tissue is easier and more uniform than real tissue: the figures show that the loop works, not how well a \
         model would do in a clinic."
    } else {
        "A few slides a hospital, one split and one seed: differences of a few hundredths may be chance. Run several seeds \
         before believing them."
    };
    vec![
        "The coordinator and the hospitals were the real programs, talking gRPC over mutual TLS on this machine's loopback \
         interface; every slide was read from its file, every update travelled, was checked and averaged. The corrector \
         was not real: it read the reference masks, takes no time and makes no mistakes."
            .to_owned(),
        material.to_owned(),
    ]
}
