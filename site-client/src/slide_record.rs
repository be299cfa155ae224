//! NAME.json and NAME-timing.json: what a scan says about a slide, for people and programs.

use std::path::Path;

use consilium_common::{Digest, GenerationNumber};
use consilium_learning::scan::{ScanTiming, SlideSummary};
use consilium_learning::slides::Hole;
use consilium_learning::tissue::TissueStats;
use serde::{Deserialize, Serialize};

use crate::scanner::{Examined, Scanner};

/// Raised when a field changes its meaning.
const VERSION: u32 = 1;

/// NAME.json. The same slide, bundle and settings give the same bytes; what differs from run to run is in NAME-timing.json.
#[derive(Debug, Serialize)]
pub(crate) struct SlideRecord<'a> {
    version: u32,
    slide: &'a str,
    /// The ensemble.
    generation: GenerationNumber,
    manifest: Digest,
    source: Source,
    tissue: &'a TissueStats,
    summary: &'a SlideSummary,
}

/// The slide as its file says.
#[derive(Debug, Serialize)]
struct Source {
    format: String,
    width_px: u32,
    height_px: u32,
    um_per_px: f64,
    /// What the file itself says.
    file_um_per_px: Option<f64>,
    objective: Option<f64>,
    warnings: Vec<String>,
    /// Parts that cannot be decoded, in level-0 pixels. Those of the level that was scanned count as glass.
    holes: Vec<HoleRecord>,
}

#[derive(Debug, Serialize)]
struct HoleRecord {
    level: usize,
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    why: String,
}

impl From<Hole> for HoleRecord {
    fn from(hole: Hole) -> Self {
        Self { level: hole.level, x: hole.x, y: hole.y, width: hole.w, height: hole.h, why: hole.why }
    }
}

/// NAME-timing.json: where the time went, in seconds. Reading and merging run beside the networks.
#[derive(Debug, Serialize)]
pub(crate) struct TimingRecord<'a> {
    /// Names the slide's files, its mask, the ensemble and the settings: with the same key nothing has changed.
    key: &'a str,
    #[serde(flatten)]
    scan: &'a ScanTiming,
    /// Writing pyramids, outlines and pictures after the scan.
    export_s: f64,
    /// Share of the scan in which the networks had nothing to do.
    idle_share: f64,
    /// Tissue by scan and export together.
    mm2_per_s: f64,
}

impl<'a> TimingRecord<'a> {
    pub(crate) fn new(key: &'a str, scan: &'a ScanTiming, export_s: f64, tissue_mm2: f64) -> Self {
        let total = scan.total_s + export_s;
        let mm2_per_s = if total > 0.0 { tissue_mm2 / total } else { 0.0 };
        Self { key, scan, export_s, idle_share: scan.idle_share(), mm2_per_s }
    }
}

/// The figures of a slide that go into the table.
#[derive(Clone, Debug, PartialEq)]
pub struct SlideLine {
    /// Its name.
    pub slide: String,
    /// Area of the scanned tissue, mm2.
    pub tissue_mm2: f64,
    /// Share of the tissue that is foreground; none without tissue, as is the next.
    pub foreground_share: Option<f64>,
    /// Mean uncertainty over the tissue, nats.
    pub mean_uncertainty_nats: Option<f64>,
    /// Damaged parts.
    pub holes: usize,
    /// Seconds from start to end, and mm2 of tissue a second; none for a slide that was finished before.
    pub took: Option<(f64, f64)>,
}

impl SlideLine {
    fn new(slide: &str, holes: usize, summary: &SlideSummary) -> Self {
        let foreground = summary.classes.iter().skip(1).map(|class| class.share_of_tissue);
        Self {
            slide: slide.to_owned(),
            tissue_mm2: summary.tissue_mm2,
            foreground_share: foreground.sum(),
            mean_uncertainty_nats: summary.uncertainty.mean_nats,
            holes,
            took: None,
        }
    }
}

/// What is read back of NAME.json.
#[derive(Deserialize)]
struct Known {
    version: u32,
    slide: String,
    source: KnownSource,
    summary: SlideSummary,
}

/// What is read back of NAME-timing.json.
#[derive(Deserialize)]
struct KnownTiming {
    key: String,
}

#[derive(Deserialize)]
struct KnownSource {
    holes: Vec<serde::de::IgnoredAny>,
}

impl<'a> SlideRecord<'a> {
    pub(crate) fn new(slide: &'a Examined, scanner: &Scanner, holes: &[Hole], summary: &'a SlideSummary) -> Self {
        let (base, about) = (slide.reader.levels()[0], slide.reader.about());
        let source = Source {
            format: about.format,
            width_px: base.width,
            height_px: base.height,
            um_per_px: slide.reader.mpp().um_per_px(),
            file_um_per_px: about.file_mpp.map(|mpp| mpp.um_per_px()),
            objective: about.objective,
            warnings: about.warnings,
            holes: holes.iter().cloned().map(HoleRecord::from).collect(),
        };
        let (generation, manifest) = (scanner.generation, scanner.manifest);
        let (name, tissue) = (&slide.entry.name, &slide.tissue.stats);
        Self { version: VERSION, slide: name, generation, manifest, source, tissue, summary }
    }

    /// Its line in the table.
    pub(crate) fn line(&self, timing: &TimingRecord<'_>) -> SlideLine {
        let took = Some((timing.scan.total_s + timing.export_s, timing.mm2_per_s));
        SlideLine { took, ..SlideLine::new(self.slide, self.source.holes.len(), self.summary) }
    }
}

/// The line of a slide that was finished before, if its JSON files are there and of the same key.
pub(crate) fn read_line(folder: &Path, name: &str, key: &str) -> Option<SlideLine> {
    let read = |file: String| std::fs::read(folder.join(file)).ok();
    let known: Known = serde_json::from_slice(&read(format!("{name}.json"))?).ok()?;
    let timing: KnownTiming = serde_json::from_slice(&read(format!("{name}-timing.json"))?).ok()?;
    let same = known.version == VERSION && timing.key == key;
    same.then(|| SlideLine::new(&known.slide, known.source.holes.len(), &known.summary))
}
