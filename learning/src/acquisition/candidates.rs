//! The boxes of one slide that may be asked for under a plan, and their scores.

use std::collections::BTreeSet;

use consilium_common::plan::{Acquisition, Score};

use super::PatchBox;
use super::describe::{Aggregation, BORDER_RADIUS, Candidate, Layout};
use super::grid::starts;
use super::rules::{Rule, Turn, finalists};
use super::select::select;
use super::sharp::{Sample, Sight};
use super::uga::UgaCounts;
use super::windows::describe_maps;
use crate::scan::{Maps, ScanError, Strip};
use crate::uncertainty::UncertaintyMap;

/// Rows of the maps that are held at once.
const ROWS: u32 = 32;
/// Share of a patch's pixels that `entropy-top` looks at.
const TOP: f64 = 0.1;
/// Candidates of a slide that are held before those that cannot be chosen are left out.
const HELD: usize = if cfg!(test) { 40 } else { 20_000 };

/// What stands behind the name of a rule: how boxes are chosen, and the map and aggregation that make their scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// Which candidates are chosen.
    pub rule: Rule,
    /// What is called uncertain.
    pub map: UncertaintyMap,
    /// Over which pixels of a box its score is the map's mean.
    pub aggregation: Aggregation,
}

impl Method {
    /// That of a rule that a plan can name. UGA's own score has its own candidates, of which the highest are chosen.
    pub fn of(score: Score) -> Self {
        use UncertaintyMap::{Entropy, Kl, LeastConfidence, Margin, Uga};
        let (rule, map, aggregation) = match score {
            Score::Uga | Score::UgaMean => (Rule::Top, Uga, Aggregation::Tissue),
            Score::Entropy => (Rule::Top, Entropy, Aggregation::Tissue),
            Score::EntropyForeground => (Rule::Top, Entropy, Aggregation::Foreground),
            Score::EntropyBorder => (Rule::Top, Entropy, Aggregation::Border { radius: BORDER_RADIUS }),
            Score::EntropyTop => (Rule::Top, Entropy, Aggregation::TopShare { share: TOP }),
            Score::Kl => (Rule::Top, Kl, Aggregation::Tissue),
            Score::Margin => (Rule::Top, Margin, Aggregation::Tissue),
            Score::LeastConfidence => (Rule::Top, LeastConfidence, Aggregation::Tissue),
            Score::ClaspPe => {
                (Rule::ClaspPe { class_share: 0.66, beta_first: 1.0, beta_last: 100.0 }, Entropy, Aggregation::Tissue)
            }
            Score::Random => (Rule::Random, Entropy, Aggregation::Tissue),
            Score::ForegroundRandom => (Rule::ForegroundRandom { foreground: 2.0 / 3.0 }, Entropy, Aggregation::Tissue),
        };
        Self { rule, map, aggregation }
    }
}

/// Boxes of a slide on a grid, scored by the plan's rule, from top to bottom and left to right.
///
/// The grid lies inside the slide. UGA's rule uses its own, side by side; the others step by half a patch and also reach
/// the far edges. Left out are boxes with too little tissue, boxes that overlap one of `exclude` (corrected before), and,
/// under UGA's rule, those that UGA's filters drop. A slide smaller than a patch has no candidates. Whether a box is sharp
/// is not looked at: [`Sight::keep_sharp_of`] does.
///
/// # Errors
/// The maps cannot be read.
pub fn candidates(
    maps: &dyn Maps,
    slide: &str,
    settings: &Acquisition,
    exclude: &[PatchBox],
) -> Result<Vec<Candidate>, ScanError> {
    let mut all = Vec::new();
    each_portion(maps, slide, settings, exclude, &mut |found| all.extend(found))?;
    Ok(all)
}

/// Those of the [`candidates`] that are sharp and that [`super::select`] could choose, whatever the other slides hold. Their
/// number does not grow with the slide, nor does the memory that finding them takes, unless most of what a rule would take
/// first is blurred: where the plan asks for sharpness, it is looked at in candidates for twice the budget, and, as long as
/// too few sharp ones are left in one of the rule's orders, in eight times as many again.
///
/// # Errors
/// The maps or the slide cannot be read, or the caller told it to stop.
pub fn shortlist(
    maps: &dyn Maps,
    slide: &str,
    settings: &Acquisition,
    exclude: &[PatchBox],
    turn: &Turn<'_>,
    sight: &Sight<'_>,
) -> Result<Vec<Candidate>, ScanError> {
    if !sight.matters(settings) || settings.budget == 0 {
        return shortlist_unseen(maps, slide, settings, exclude, turn);
    }
    let mut sample = Sample::default();
    let mut wide = Acquisition { budget: settings.budget.saturating_mul(2), ..settings.clone() };
    let mut all = gathered(maps, slide, &wide, exclude, turn, &mut |candidate| {
        sample.add(candidate);
        true
    })?;
    let least = sight.least(maps, sample, settings)?;
    let (mut blurred, mut sharp) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let boxes: Vec<PatchBox> = all.iter().map(|candidate| candidate.patch).collect();
        let queues = queues(&all, &wide, turn).unwrap_or_default();
        let found = sight.take_blurred(maps, &mut all, least, &mut sharp)?;
        // Of every order by which a rule takes there are still as many left as the budget needs.
        let lost = |queue: Vec<usize>| queue.into_iter().filter(|&place| found.contains(&boxes[place])).count();
        let most = queues.into_iter().map(lost).max().unwrap_or(0);
        if most <= (wide.budget - settings.budget) as usize * blocked(settings) {
            return Ok(reduced(all, settings, turn));
        }
        blurred.extend(found);
        wide.budget = wide.budget.saturating_mul(8);
        all = gathered(maps, slide, &wide, exclude, turn, &mut |candidate| !blurred.contains(&candidate.patch))?;
    }
}

/// The shortlist, whether sharp or not.
pub(super) fn shortlist_unseen(
    maps: &dyn Maps,
    slide: &str,
    settings: &Acquisition,
    exclude: &[PatchBox],
    turn: &Turn<'_>,
) -> Result<Vec<Candidate>, ScanError> {
    Ok(reduced(gathered(maps, slide, settings, exclude, turn, &mut |_| true)?, settings, turn))
}

/// Those that could be chosen among all slides', of the candidates that are `wanted`.
fn gathered(
    maps: &dyn Maps,
    slide: &str,
    settings: &Acquisition,
    exclude: &[PatchBox],
    turn: &Turn<'_>,
    wanted: &mut dyn FnMut(&Candidate) -> bool,
) -> Result<Vec<Candidate>, ScanError> {
    let mut all: Vec<Candidate> = Vec::new();
    each_portion(maps, slide, settings, exclude, &mut |found| {
        all.extend(found.into_iter().filter(&mut *wanted));
        if all.len() > HELD {
            all = kept(std::mem::take(&mut all), settings, turn);
        }
    })?;
    Ok(kept(all, settings, turn))
}

/// Of those that could be chosen, what is needed of them.
fn reduced(all: Vec<Candidate>, settings: &Acquisition, turn: &Turn<'_>) -> Vec<Candidate> {
    // What one order decides alone: of each slide, all slides take what the slide by itself would take, or less.
    let alone = matches!(Method::of(settings.score).rule, Rule::Top | Rule::Random) && settings.control_share == 0.0;
    if alone { select(&all, settings, turn).patches } else { kept(all, settings, turn) }
}

/// Those that could be chosen, in their order, however many of them overlap.
fn kept(all: Vec<Candidate>, settings: &Acquisition, turn: &Turn<'_>) -> Vec<Candidate> {
    let Some(queues) = queues(&all, settings, turn) else { return all };
    let wanted: BTreeSet<usize> = queues.into_iter().flatten().collect();
    all.into_iter().enumerate().filter(|(place, _)| wanted.contains(place)).map(|(_, candidate)| candidate).collect()
}

/// The places of those that could be chosen, by the rule's orders; none where a rule weighs all against each other.
fn queues(all: &[Candidate], settings: &Acquisition, turn: &Turn<'_>) -> Option<Vec<Vec<usize>>> {
    let rule = Method::of(settings.score).rule;
    finalists(&rule, all, (settings.budget, settings.control_share > 0.0), blocked(settings), turn)
}

/// How many boxes of the grid one can overlap at most, itself included: a few of the even grid along each axis, and the
/// last, which ends at the edge.
fn blocked(settings: &Acquisition) -> usize {
    let (side, stride) = (settings.patch_px, layout(settings).stride.max(1));
    (2 * (side.saturating_sub(1) / stride) as usize + 2).pow(2)
}

fn layout(settings: &Acquisition) -> Layout {
    Layout::of(settings, Method::of(settings.score).aggregation)
}

fn each_portion(
    maps: &dyn Maps,
    slide: &str,
    settings: &Acquisition,
    exclude: &[PatchBox],
    each: &mut dyn FnMut(Vec<Candidate>),
) -> Result<(), ScanError> {
    if settings.score != Score::Uga {
        return describe_maps(maps, slide, Method::of(settings.score).map, &layout(settings), exclude, each);
    }
    let side = settings.patch_px;
    let along = |length| starts(length, side, side, false);
    let columns = along(maps.width());
    for y in along(maps.height()) {
        let boxes = columns.iter().map(|&x| PatchBox { x, y, side });
        let boxes: Vec<PatchBox> = boxes.filter(|patch| !exclude.iter().any(|other| other.overlaps(patch))).collect();
        each(uga_row(maps, slide, settings.min_tissue, &boxes)?);
    }
    Ok(())
}

/// What UGA's rule sees of a box.
#[derive(Clone, Default)]
struct UgaBox {
    counts: UgaCounts,
    tissue: u64,
    uncertainty: f64,
}

/// The candidates among boxes that lie side by side.
fn uga_row(maps: &dyn Maps, slide: &str, min_tissue: f64, boxes: &[PatchBox]) -> Result<Vec<Candidate>, ScanError> {
    let Some(&PatchBox { y, side, .. }) = boxes.first() else { return Ok(Vec::new()) };
    let (mut seen, classes) = (vec![UgaBox::default(); boxes.len()], maps.classes());
    maps.each_strip(y..y + side, ROWS, &mut |strip: &Strip| {
        for (seen, patch) in seen.iter_mut().zip(boxes) {
            for row in 0..strip.rows as usize {
                let start = row * strip.width as usize + patch.x as usize;
                let line = start..start + side as usize;
                let (nats, colour) = (&strip.uncertainty[line.clone()], &strip.colour[line.clone()]);
                seen.counts.add(nats, colour, &strip.labels[line.clone()], classes);
                for (_, nats) in strip.tissue[line].iter().zip(nats).filter(|(tissue, _)| **tissue != 0) {
                    seen.tissue += 1;
                    seen.uncertainty += f64::from(*nats);
                }
            }
        }
        Ok(())
    })?;
    let candidate = |(seen, &patch): (&UgaBox, &PatchBox)| {
        let tissue = seen.tissue as f64 / f64::from(side).powi(2);
        let mean_uncertainty = seen.uncertainty / seen.tissue as f64;
        let score = seen.counts.key()? as f64;
        let wanted = seen.tissue > 0 && tissue >= min_tissue && mean_uncertainty.is_finite();
        wanted.then(|| Candidate { score, mean_uncertainty, tissue, ..Candidate::at(slide, patch) })
    };
    Ok(seen.iter().zip(boxes).filter_map(candidate).collect())
}
