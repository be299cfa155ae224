//! Which figures a comparison's report has, with their captions.

use super::cell::Cell;
use super::chart_budgets::by_site;
use super::chart_colour::colours;
use super::chart_stages::by_stage;
use super::charts::{self, Plotted};
use super::colour::SiteColours;
use super::first_ensemble::boxes;
use super::summary::{BoxSummary, Summary};

/// A drawing with its caption; the name is its file's stem.
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) svg: String,
    pub(super) caption: String,
}

/// All figures, by what they are about.
pub(super) struct Figures {
    /// Every arm, a figure a budget.
    pub(super) arms: Vec<Figure>,
    /// Every site, against budget.
    pub(super) sites: Vec<Figure>,
    /// Stages of disease, a figure a budget; none where no stage is known.
    pub(super) stages: Vec<Figure>,
    /// What the first ensemble knows of its errors.
    pub(super) ensemble: Vec<Figure>,
    /// The sites in colour; none where colours were not kept.
    pub(super) colours: Vec<Figure>,
}

impl Figures {
    /// Of a comparison's folder: with every box and with pictures.
    pub(super) fn of(summary: &Summary, cells: &[Cell], sites: &[SiteColours]) -> Self {
        Self::with(summary, &boxes(cells).into_iter().map(|(_, pair)| pair).collect::<Vec<_>>(), sites)
    }

    /// Of a summary alone.
    pub(super) fn of_summary(summary: &Summary) -> Self {
        Self::with(summary, &[], &summary.colours)
    }

    fn with(summary: &Summary, boxes: &[(f64, f64)], sites: &[SiteColours]) -> Self {
        let budgets = summary.budgets();
        let with_stages = budgets.iter().filter(|_| summary.rows.iter().any(|row| !row.stages.is_empty()));
        Self {
            arms: budgets.iter().map(|&budget| arms(summary, budget)).collect(),
            sites: vec![against_budget(summary)],
            stages: with_stages.map(|&budget| stages(summary, budget)).collect(),
            ensemble: (summary.boxes.as_ref().map(|of| uncertainty(of, boxes)).into_iter())
                .chain((!summary.reliability.is_empty()).then(|| reliability(&summary.reliability)))
                .collect(),
            colours: (!sites.is_empty()).then(|| in_colour(sites)).into_iter().collect(),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Figure> {
        [&self.arms, &self.sites, &self.stages, &self.ensemble, &self.colours].into_iter().flatten()
    }
}

fn arms(summary: &Summary, budget: u32) -> Figure {
    let caption = format!(
        "With {budget} patches a site. Means over sites other than the central one, each field held out once for \
         every seed. Intervals are over seeds and fields, which differ much by themselves: arms are compared by the \
         paired differences below."
    );
    Figure { name: format!("dice-{budget}"), svg: charts::arms(summary, budget), caption }
}

fn against_budget(summary: &Summary) -> Figure {
    let (svg, left_out) = by_site(summary);
    let mut caption = "Dice of held-out fields against the patches that each site was asked for, all sites but the central one \
                       together and each by itself, with 95 % intervals over seeds and fields; marks of one budget are moved apart. The central site is asked \
                       for none: its panel shows what it forgets."
        .to_owned();
    if !left_out.is_empty() {
        caption.push_str(&format!(" For legibility without {}.", left_out.join(", ")));
    }
    Figure { name: "sites".into(), svg, caption }
}

fn stages(summary: &Summary, budget: u32) -> Figure {
    let caption = format!(
        "By stage of disease, with {budget} patches a site, over the fields of all sites but the central one, with \
         95 % intervals; the dashed line is the first ensemble. A \
         stage without foreground in truth has no Dice: of it the share of tissue is shown that is wrongly called \
         foreground."
    );
    Figure { name: format!("stages-{budget}"), svg: by_stage(summary, budget), caption }
}

fn in_colour(sites: &[SiteColours]) -> Figure {
    let mut caption = "One small mark a field, over its tissue; the large marks are the sites' means with one standard deviation \
                       between fields. Left: colour however dark, as chromaticities of the hue-saturation-density model, where \
                       grey is at (0, 0), more red absorbed is to the right, and more green than blue absorbed is up. Right: \
                       mean optical density, and how much it varies within the field."
        .to_owned();
    if sites.iter().any(|site| !site.thumbnails.is_empty()) {
        caption.push_str(" Below: the middles of the first fields.");
    }
    Figure { name: "colours".into(), svg: colours(sites), caption }
}

fn uncertainty(of: &BoxSummary, boxes: &[(f64, f64)]) -> Figure {
    let seeds = || of.spearman_by_seed.iter().copied();
    let (least, most) = (seeds().fold(1.0, f64::min), seeds().fold(-1.0, f64::max));
    let note = match of.spearman {
        Some(rho) if of.spearman_by_seed.len() > 1 => format!("Spearman {rho:.2}, by seed {least:.2} to {most:.2}"),
        Some(rho) => format!("Spearman {rho:.2}"),
        None => String::new(),
    };
    let axes = ("mean uncertainty of the box (nats)", "Dice of the box");
    let title = "Mean uncertainty against Dice of boxes of held-out fields";
    let caption = format!(
        "Does the first ensemble know where it is wrong? {} boxes, side by side, of held-out fields of the other \
         sites, once for every seed; those without foreground in truth and prediction are left out. The line goes through \
         the means of tenths of them. {}",
        of.boxes,
        if note.is_empty() { String::new() } else { format!("{note}.") }
    );
    let plotted =
        Plotted { points: boxes, line: &of.tenths, note: note.split(',').next().unwrap_or(""), ..Plotted::default() };
    Figure { name: "uncertainty".into(), svg: charts::square(title, axes, &plotted), caption }
}

fn reliability(bins: &[(f64, f64)]) -> Figure {
    let axes = ("mean probability of the predicted class", "share that is right");
    let caption = "Reliability of the first ensemble on held-out fields of the other sites, in bins of equal width; on \
                   the dashed line it is as sure as it is right.";
    let plotted = Plotted { points: bins, shares: true, ..Plotted::default() };
    let svg = charts::square("Reliability diagram of the first ensemble", axes, &plotted);
    Figure { name: "reliability".into(), svg, caption: caption.into() }
}
