//! `consilium-site scan`: the maps, outlines, pictures and figures of slides, offline.
//!
//! First every slide is looked at: is it readable, where is its tissue, how many tiles does it take. Then they are scanned,
//! as many side by side as the memory allows. Each slide has a folder of its own among the outputs. It is finished when its
//! NAME.json is there, which is written last; until then its maps lie in a hidden folder beside it, from which `resume`
//! goes on.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use consilium_common::plan::ScanSettings;
use consilium_common::{Digest, Mpp};
use consilium_learning::dataset::{DataFolder, SlideEntry, Split, slides_in};
use consilium_learning::engine::Device;
use consilium_learning::network::Ensemble;
use consilium_learning::scan::check_name;
use consilium_learning::tissue::TissueSettings;

use super::{LeftOut, load, open};
use crate::error::SiteError;
use crate::files;
use crate::fingerprint::fingerprint;
use crate::scanner::{Examined, OfSlide, Scanner};
use crate::slide_record::{SlideLine, SlideRecord, TimingRecord, read_line};

/// Bytes of memory for which one more slide is scanned beside the others.
const MEMORY_PER_SLIDE: u64 = 1 << 30;
/// More slides at once than this only compete for the disk.
const MOST_AT_ONCE: u64 = 4;

/// What to scan, with what, and where the outputs go.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// The bundle: a folder with ensemble.json.
    pub bundle: PathBuf,
    /// Tiles and step.
    pub settings: ScanSettings,
    /// Data folders, other folders of slides, or single slides.
    pub paths: Vec<PathBuf>,
    /// Only slides of these names; all, if there are none.
    pub only: Vec<String>,
    /// Spacing of slides that are in no data folder, in place of what their files say.
    pub mpp: Option<Mpp>,
    /// How tissue is found.
    pub tissue: TissueSettings,
    /// What computes the networks.
    pub device: Device,
    /// Memory beyond the weights of the ensemble, for all slides together.
    pub memory_bytes: u64,
    /// Where the outputs go.
    pub out: PathBuf,
    /// Go on with what an earlier scan of the same slides and bundle has finished.
    pub resume: bool,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Opening slides and finding their tissue; counted in slides.
    Looking,
    /// Scanning; counted in tiles.
    Scanning,
}

/// Hears how far a phase is: how much is done, of how much. False stops the scan.
pub type Seen<'a> = &'a (dyn Fn(Phase, u64, u64) -> bool + Sync);

/// What a scan did.
#[derive(Clone, Debug, Default)]
pub struct ScanReport {
    /// Finished slides, by name; those that an earlier scan had finished, too.
    pub slides: Vec<SlideLine>,
    /// Slides that could not be scanned, and why.
    pub failed: Vec<LeftOut>,
}

/// What a scan would do.
#[derive(Clone, Debug, Default)]
pub struct DryRun {
    /// Slides that would be scanned.
    pub slides: Vec<Prospect>,
    /// Slides that could not be.
    pub failed: Vec<LeftOut>,
    /// Seconds that a tile takes, measured on this machine.
    pub seconds_per_tile: f64,
}

/// A slide as it would be scanned.
#[derive(Clone, Debug)]
pub struct Prospect {
    /// Its name.
    pub slide: String,
    /// Format, in words.
    pub format: String,
    /// Level-0 size, pixels.
    pub size: (u32, u32),
    /// Spacing of level 0.
    pub mpp: Mpp,
    /// Area of the tissue, mm2.
    pub tissue_mm2: f64,
    /// Tiles that every member will see.
    pub tiles: u64,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// Whether an earlier scan has finished it.
    pub finished: bool,
}

/// Looks at the slides and says what a scan would do.
///
/// # Errors
/// The bundle or a path cannot be used at all.
pub fn dry_run(request: &ScanRequest, seen: Seen<'_>) -> Result<DryRun, SiteError> {
    let (scanner, slides, mut failed) = prepare(request)?;
    let mut run = DryRun { seconds_per_tile: scanner.seconds_per_tile(), ..DryRun::default() };
    for (number, slide) in slides.iter().enumerate() {
        if !seen(Phase::Looking, number as u64, slides.len() as u64) {
            return Err(SiteError::Stopped);
        }
        match survived(|| Ok(scanner.examine(slide, &request.tissue)))? {
            Ok(examined) => {
                let finished = request.resume && finished(request, &scanner, slide).is_some();
                run.slides.push(prospect(&examined, finished));
            }
            Err(why) => failed.push(LeftOut { slide: slide.name.clone(), why }),
        }
    }
    failed.sort_by(|a, b| a.slide.cmp(&b.slide));
    Ok(DryRun { failed, ..run })
}

fn prospect(examined: &Examined, finished: bool) -> Prospect {
    let base = examined.reader.levels()[0];
    let about = examined.reader.about();
    Prospect {
        slide: examined.entry.name.clone(),
        format: about.format,
        size: (base.width, base.height),
        mpp: examined.reader.mpp(),
        tissue_mm2: examined.tissue.stats.tissue_mm2,
        tiles: examined.tiles,
        warnings: about.warnings,
        finished,
    }
}

/// Scans the slides and writes their outputs. A slide that cannot be scanned is named in the report; the others go on.
///
/// # Errors
/// The bundle, a path or the output folder cannot be used at all, or the scan was stopped.
pub fn scan(request: &ScanRequest, seen: Seen<'_>) -> Result<ScanReport, SiteError> {
    let (scanner, slides, mut failed) = prepare(request)?;
    files::create_dir(&request.out)?;
    let _lock = files::lock(&request.out.join(".lock"))?;
    let mut report = ScanReport::default();
    let mut todo = Vec::new();
    for (number, slide) in slides.iter().enumerate() {
        if !seen(Phase::Looking, number as u64, slides.len() as u64) {
            return Err(SiteError::Stopped);
        }
        match request.resume.then(|| finished(request, &scanner, slide)).flatten() {
            Some(line) => report.slides.push(line),
            // Only how many tiles it takes is kept: an open slide holds decoded tiles.
            None => match survived(|| Ok(scanner.examine(slide, &request.tissue)))? {
                Ok(examined) => todo.push((slide, examined.tiles)),
                Err(why) => failed.push(LeftOut { slide: slide.name.clone(), why }),
            },
        }
    }
    let total = todo.iter().map(|(_, tiles)| tiles).sum();
    let done = Run { request, scanner: &scanner, total, seen }.all(&todo)?;
    for (name, outcome) in done {
        match outcome {
            Ok(line) => report.slides.push(line),
            Err(why) => failed.push(LeftOut { slide: name, why }),
        }
    }
    report.slides.sort_by(|a, b| a.slide.cmp(&b.slide));
    failed.sort_by(|a, b| a.slide.cmp(&b.slide));
    Ok(ScanReport { failed, ..report })
}

/// The ensemble, the slides that are asked for, and those of them that cannot be used.
fn prepare(request: &ScanRequest) -> Result<(Scanner, Vec<SlideEntry>, Vec<LeftOut>), SiteError> {
    let ensemble: std::sync::Arc<Ensemble> = load(&request.bundle, &request.settings)?;
    let (mut slides, mut failed) = find(&request.paths, request.mpp)?;
    if !request.only.is_empty() {
        let there = |name: &str| slides.iter().any(|s| s.name == name) || failed.iter().any(|f| f.slide == name);
        if let Some(missing) = request.only.iter().find(|name| !there(name)) {
            return Err(SiteError::Usage(format!(
                "--only {missing}: there is no such slide; give names without endings"
            )));
        }
        slides.retain(|slide| request.only.contains(&slide.name));
        failed.retain(|slide| request.only.contains(&slide.slide));
    }
    if slides.is_empty() && failed.is_empty() {
        return Err(SiteError::Usage(
            "there are no slides in what was given; name slides or folders of slides".to_owned(),
        ));
    }
    let at_once = at_once(request.memory_bytes, slides.len());
    let memory = request.memory_bytes / at_once as u64;
    let scanner = Scanner::new(&ensemble, request.settings.clone(), memory, request.device)?;
    Ok((scanner, slides, failed))
}

fn at_once(memory_bytes: u64, slides: usize) -> usize {
    ((memory_bytes / MEMORY_PER_SLIDE).clamp(1, MOST_AT_ONCE) as usize).min(slides.max(1))
}

/// The slides of data folders, plain folders and single paths; a name may come once only.
fn find(paths: &[PathBuf], mpp: Option<Mpp>) -> Result<(Vec<SlideEntry>, Vec<LeftOut>), SiteError> {
    let (mut slides, mut failed) = (Vec::new(), Vec::new());
    for path in paths {
        if path.join("slides").is_dir() {
            let folder: DataFolder = open(path)?;
            failed.extend(super::left_out(&folder));
            slides.extend(folder.slides);
        } else {
            let found = slides_in(path).map_err(SiteError::learning("looking for slides"))?;
            failed.extend(found.problems.into_iter().map(|p| LeftOut { slide: p.slide, why: p.why }));
            slides.extend(found.slides.into_iter().map(|(name, path)| SlideEntry {
                name,
                path,
                mask: None,
                tissue: None,
                split: Split::Pool,
                mpp,
                stage: None,
            }));
        }
    }
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    // What is given twice, by itself and by its folder, is meant once.
    slides.retain(|slide: &SlideEntry| paths.insert(slide.path.canonicalize().unwrap_or_else(|_| slide.path.clone())));
    slides.retain(|slide: &SlideEntry| {
        let first = names.insert(slide.name.clone());
        if !first {
            let why = format!(
                "{} has the name of another slide, and outputs go by name; scan it into another folder",
                slide.path.display()
            );
            failed.push(LeftOut { slide: slide.name.clone(), why });
        }
        first
    });
    // Before hours of scanning: outputs are called so.
    slides.retain(|slide| {
        let usable = check_name(&slide.name);
        failed.extend(usable.as_ref().err().map(|why| LeftOut { slide: slide.name.clone(), why: why.to_string() }));
        usable.is_ok()
    });
    Ok((slides, failed))
}

/// The figures of a slide that was finished before, if they are of the same scan and mask.
fn finished(request: &ScanRequest, scanner: &Scanner, slide: &SlideEntry) -> Option<SlideLine> {
    read_line(&request.out.join(&slide.name), &slide.name, &record_key(request, scanner, slide))
}

/// Names what all outputs of a slide depend on: its maps, and its reference mask.
fn record_key(request: &ScanRequest, scanner: &Scanner, slide: &SlideEntry) -> String {
    let mask = slide.mask.as_deref().map(fingerprint);
    Digest::of(format!("{} {mask:?}", scanner.key(slide, &request.tissue)).as_bytes()).to_string()
}

/// A slide's name with its line, or why it failed.
type Outcome = (String, Result<SlideLine, String>);

/// One run over several slides.
struct Run<'a> {
    request: &'a ScanRequest,
    scanner: &'a Scanner,
    total: u64,
    seen: Seen<'a>,
}

impl Run<'_> {
    /// Scans all of them, some side by side; the results in their order.
    fn all(&self, slides: &[(&SlideEntry, u64)]) -> Result<Vec<Outcome>, SiteError> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let done: Vec<AtomicU64> = slides.iter().map(|_| AtomicU64::new(0)).collect();
        let results = Mutex::new(Vec::new());
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((slide, expected)) = slides.get(number) else { return };
                let progress = |tiles: u64, of: u64| {
                    // A scan that goes on counts only what is left of it.
                    done[number].store(expected.saturating_sub(of) + tiles, Ordering::Relaxed);
                    let sum = done.iter().map(|tiles| tiles.load(Ordering::Relaxed)).sum();
                    (self.seen)(Phase::Scanning, sum, self.total) && !stop.load(Ordering::Relaxed)
                };
                let outcome = survived(|| self.one(slide, *expected, &progress));
                let failed = outcome.is_err();
                results.lock().unwrap_or_else(PoisonError::into_inner).push((number, outcome));
                // This machine's own failure, such as a full disk, would only repeat itself.
                if failed {
                    stop.store(true, Ordering::Relaxed);
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..at_once(self.request.memory_bytes, slides.len()) {
                scope.spawn(work);
            }
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(number, _)| *number);
        // A full disk says more than the stop that it caused.
        if let Some(at) = results.iter().position(|(_, r)| r.as_ref().is_err_and(|e| !matches!(e, SiteError::Stopped)))
        {
            return Err(results.swap_remove(at).1.err().unwrap_or(SiteError::Stopped));
        }
        let named = results.into_iter().map(|(number, outcome)| Ok((slides[number].0.name.clone(), outcome?)));
        named.collect()
    }

    fn one(&self, entry: &SlideEntry, tiles: u64, progress: &(dyn Fn(u64, u64) -> bool + Sync)) -> OfSlide<SlideLine> {
        let (name, out) = (&entry.name, self.request.out.join(&entry.name));
        let maps_dir = out.join(".scan");
        if !self.request.resume {
            files::remove_dir(&maps_dir)?;
        }
        // What says that it is finished goes first, and with it the leavings of a writer that was killed.
        files::remove_file(&out.join(format!("{name}.json")))?;
        files::remove_leavings(&out)?;
        // Of the files as they are now: who exchanges one later is noticed by the next scan.
        let (key, record_key) =
            (self.scanner.key(entry, &self.request.tissue), record_key(self.request, self.scanner, entry));
        let slide = match self.scanner.examine(entry, &self.request.tissue) {
            Ok(slide) => slide,
            Err(why) => return Ok(Err(why)),
        };
        let maps = match self.scanner.maps(&slide, &maps_dir, &key, progress)? {
            Ok(maps) => maps,
            Err(why) => return Ok(Err(why)),
        };
        let clock = Instant::now();
        let slide = match self.scanner.reopened(slide) {
            Ok(slide) => slide,
            Err(why) => return Ok(Err(why)),
        };
        let summary = match self.scanner.export(&slide, &maps, &out, &|| progress(tiles, tiles))? {
            Ok(summary) => summary,
            Err(why) => return Ok(Err(why)),
        };
        let export_s = clock.elapsed().as_secs_f64();
        let timing = TimingRecord::new(&record_key, &maps.timing, export_s, slide.tissue.stats.tissue_mm2);
        files::write_json(&out.join(format!("{name}-timing.json")), &timing)?;
        let record = SlideRecord::new(&slide, self.scanner, &maps.holes, &summary);
        files::write_json(&out.join(format!("{name}.json")), &record)?;
        files::remove_dir(&maps_dir)?;
        Ok(Ok(record.line(&timing)))
    }
}

/// A decoder that crashes costs its slide and no more.
fn survived<T>(work: impl FnOnce() -> OfSlide<T>) -> OfSlide<T> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Ok(Err("the scan of this slide stopped unexpectedly; this is a bug, please report it with the lines above"
            .to_owned()))
    })
}
