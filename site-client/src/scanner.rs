//! One ensemble over one slide after another: what the daemon's scan and evaluation and the offline commands share.

use std::path::Path;

use consilium_common::plan::{ScanSettings, Task};
use consilium_common::{Digest, GenerationNumber};
use consilium_learning::dataset::SlideEntry;
use consilium_learning::engine::{self, Device, Engine};
use consilium_learning::metrics::SlideEvaluation;
use consilium_learning::network::Ensemble;
use consilium_learning::scan::{
    Maps, OVERLAY_SIDE, Progress, Resources, ScanError, ScanJob, ScanMaps, SlideSummary, SummaryBuilder, Writers,
    seconds_per_tile,
};
use consilium_learning::slides::{MaskReader, SlideError, SlideReader, open_slide, thumbnail};
use consilium_learning::tissue::{Found, TissueMask, TissueSettings};

use tracing::info;

use crate::error::SiteError;
use crate::files;
use crate::fingerprint::fingerprint;

/// Raised when the same slide, bundle and settings would give other maps.
const VERSION: u32 = 1;

/// Bytes of maps that are read at once after a scan.
const STRIP_BYTES: usize = 64 << 20;

/// What one slide gave: the outer error is this site's (a full disk, a stop), the inner one the slide's, one sentence.
pub(crate) type OfSlide<T> = Result<Result<T, String>, SiteError>;

/// An ensemble that is ready to scan slides.
#[derive(Debug)]
pub(crate) struct Scanner {
    engine: Engine,
    /// The digest of the ensemble's manifest.
    pub(crate) manifest: Digest,
    pub(crate) generation: GenerationNumber,
    pub(crate) task: Task,
    settings: ScanSettings,
    resources: Resources,
}

/// A slide that was looked at: it can be read, and this is its tissue.
pub(crate) struct Examined {
    pub(crate) entry: SlideEntry,
    pub(crate) reader: Box<dyn SlideReader>,
    pub(crate) tissue: Found,
    /// Tiles that every member will see.
    pub(crate) tiles: u64,
}

impl Scanner {
    /// Prepares the members on a device. What the scan of a slide needs stays within `memory_bytes` beyond their weights.
    pub(crate) fn new(
        ensemble: &Ensemble,
        settings: ScanSettings,
        memory_bytes: u64,
        device: Device,
    ) -> Result<Self, SiteError> {
        let engine =
            engine::open(device, ensemble, &settings).map_err(SiteError::learning("preparing the networks"))?;
        info!(engine = engine.why(), "networks are ready");
        Ok(Self {
            engine,
            manifest: Digest::of(&ensemble.manifest.to_bytes()?),
            generation: ensemble.manifest.generation,
            task: ensemble.manifest.task.clone(),
            settings,
            resources: Resources::within(memory_bytes),
        })
    }

    /// Opens a slide and finds its tissue; what is wrong is one sentence.
    pub(crate) fn examine(&self, slide: &SlideEntry, settings: &TissueSettings) -> Result<Examined, String> {
        let reader = open_slide(&slide.path, slide.mpp).map_err(|e| e.to_string())?;
        let tissue = match &slide.tissue {
            Some(outlines) => Found::from_geojson(outlines, reader.as_ref(), settings).map_err(|e| e.to_string())?,
            None => TissueMask::find(reader.as_ref(), settings).map_err(|e| e.to_string())?,
        };
        let tiles = self.job(reader.as_ref(), &tissue.mask).tiles().map_err(|e| e.to_string())?;
        // A mask that cannot be used should not cost a scan.
        self.mask(slide, reader.as_ref()).map_err(|e| e.to_string())?;
        Ok(Examined { entry: slide.clone(), reader, tissue, tiles })
    }

    fn mask(&self, slide: &SlideEntry, reader: &dyn SlideReader) -> Result<Option<MaskReader>, SlideError> {
        let open = |mask| MaskReader::open(mask, reader, self.task.spacing_um, self.task.classes.len());
        slide.mask.as_deref().map(open).transpose()
    }

    /// The maps of a slide, in `folder`; what an earlier scan of the same key has finished there is not done again. Of a
    /// slide that cannot be scanned nothing is kept, unless the next try could do better.
    pub(crate) fn maps(&self, slide: &Examined, folder: &Path, key: &str, seen: Progress<'_>) -> OfSlide<ScanMaps> {
        let maps = self.job(slide.reader.as_ref(), &slide.tissue.mask).in_folder(folder, key, seen);
        let passing = maps.as_ref().is_err_and(may_pass);
        let maps = of_slide(maps)?;
        if maps.is_err() && !passing {
            files::remove_dir(folder)?;
        }
        Ok(maps)
    }

    /// Opens and scans a slide with its maps in `folder`, as a site does in a round.
    pub(crate) fn scan(&self, slide: &SlideEntry, folder: &Path, seen: Progress<'_>) -> OfSlide<ScanMaps> {
        let settings = TissueSettings { measure_blur: false, ..TissueSettings::default() };
        match self.examine(slide, &settings) {
            Ok(examined) => self.maps(&examined, folder, &self.key(slide, &settings), seen),
            Err(why) => Ok(Err(why)),
        }
    }

    /// The same slide opened anew: without the decoded tiles that it kept while it was scanned.
    pub(crate) fn reopened(&self, slide: Examined) -> Result<Examined, String> {
        let reader = open_slide(&slide.entry.path, slide.entry.mpp).map_err(|e| e.to_string())?;
        Ok(Examined { reader, ..slide })
    }

    /// Writes the outputs of a scanned slide into `out`, all but NAME.json, and returns its figures.
    pub(crate) fn export(
        &self,
        slide: &Examined,
        maps: &ScanMaps,
        out: &Path,
        go_on: &dyn Fn() -> bool,
    ) -> OfSlide<SlideSummary> {
        let outlines = out.join(format!("{}-tissue.geojson", slide.entry.name));
        let geojson = slide.tissue.mask.to_geojson(slide.reader.as_ref());
        files::write_atomic(&outlines, geojson.as_bytes(), files::SHARED)?;
        of_slide(self.exported(slide, maps, out, go_on))
    }

    fn exported(
        &self,
        slide: &Examined,
        maps: &ScanMaps,
        out: &Path,
        go_on: &dyn Fn() -> bool,
    ) -> Result<SlideSummary, ScanError> {
        let (reader, size) = (slide.reader.as_ref(), (maps.width(), maps.height()));
        let mask = self.mask(&slide.entry, reader)?;
        let level0_px = self.task.spacing_um.um_per_px() / reader.mpp().um_per_px();
        let picture = thumbnail(reader, OVERLAY_SIDE)?;
        let mut writers = Writers::create(out, &slide.entry.name, &self.task, size, level0_px, picture)?;
        let mut summary = SummaryBuilder::new(&self.task, size.0, size.1);
        let (rows, mut first) = (rows_at_once(maps), true);
        loop {
            maps.each_strip(0..size.1, rows, &mut |strip| {
                if !go_on() {
                    return Err(ScanError::Stopped);
                }
                if first {
                    let truth = mask.as_ref().map(|mask| mask.rows(strip.y, strip.rows)).transpose()?;
                    summary.add(strip, truth.as_deref());
                }
                writers.add(strip)
            })?;
            first = false;
            if !writers.next_pass()? {
                break;
            }
        }
        writers.finish()?;
        Ok(summary.finish())
    }

    /// Scans a slide and compares it with its reference mask. The maps stay in `folder`.
    pub(crate) fn evaluate(&self, slide: &SlideEntry, folder: &Path, seen: Progress<'_>) -> OfSlide<SlideEvaluation> {
        if slide.mask.is_none() {
            return Ok(Err("has no reference mask; add masks/NAME.png".to_owned()));
        }
        let settings = TissueSettings { measure_blur: false, ..TissueSettings::default() };
        let examined = match self.examine(slide, &settings) {
            Ok(examined) => examined,
            Err(why) => return Ok(Err(why)),
        };
        let maps = match self.maps(&examined, folder, &self.key(slide, &settings), seen)? {
            Ok(maps) => maps,
            Err(why) => return Ok(Err(why)),
        };
        of_slide(self.compared(&examined, &maps))
    }

    fn compared(&self, slide: &Examined, maps: &ScanMaps) -> Result<SlideEvaluation, ScanError> {
        let mut evaluation = SlideEvaluation::new(self.task.classes.len());
        if let Some(mask) = self.mask(&slide.entry, slide.reader.as_ref())? {
            maps.each_strip(0..maps.height(), rows_at_once(maps), &mut |strip| {
                evaluation.add(strip, &mask.rows(strip.y, strip.rows)?);
                Ok(())
            })?;
        }
        Ok(evaluation)
    }

    fn job<'a>(&'a self, slide: &'a dyn SlideReader, tissue: &'a TissueMask) -> ScanJob<'a> {
        let (predictor, task, settings) = (self.engine.predictor(), &self.task, &self.settings);
        ScanJob { slide, tissue, predictor, task, settings, resources: self.resources }
    }

    /// Seconds that a tile takes on this machine, all members together.
    pub(crate) fn seconds_per_tile(&self) -> f64 {
        seconds_per_tile(self.engine.predictor(), self.settings.tile_px)
    }

    /// Names everything that the maps of a slide depend on.
    pub(crate) fn key(&self, slide: &SlideEntry, tissue: &TissueSettings) -> String {
        let scan = &self.settings;
        let outlines = slide.tissue.as_deref().map(fingerprint);
        let text = format!(
            "{VERSION} {} {} {} {:?} {:?} {} {:?} {} {outlines:?}",
            // Engines differ in the last bits.
            self.engine.name(),
            self.manifest,
            self.task.spacing_um,
            scan,
            slide.mpp,
            fingerprint(&slide.path),
            tissue.sensitivity,
            tissue.exclude_pen,
        );
        Digest::of(text.as_bytes()).to_string()
    }
}

/// Rows of maps that are read at once: those of a slab, or a part of it where slides are wide or classes many.
fn rows_at_once(maps: &dyn Maps) -> u32 {
    // As floats, as stored, and as the bytes of the pyramids.
    let pixel = 19 + 7 * maps.classes();
    let rows = STRIP_BYTES / pixel / (maps.width() as usize).max(1);
    [32, 16].into_iter().find(|&whole| rows >= whole).unwrap_or(8) as u32
}

/// What another try may not meet again: a share that was away, too many other programs.
fn may_pass(error: &ScanError) -> bool {
    let away = |slide: &SlideError| matches!(slide, SlideError::Unreadable { .. } | SlideError::Missing { .. });
    matches!(error, ScanError::Slide(slide) if away(slide)) || matches!(error, ScanError::Threads(_))
}

/// Tells a slide's own fault from one of this machine.
pub(crate) fn of_slide<T>(done: Result<T, ScanError>) -> OfSlide<T> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(ScanError::Stopped) => Err(SiteError::Stopped),
        Err(ScanError::Slide(SlideError::Write { path, source })) => {
            of_slide(Err(ScanError::Write { path, why: source.to_string() }))
        }
        Err(ScanError::Write { path, why }) => {
            let why = format!("cannot be written ({why}); check the folder's permissions and the free space");
            Err(SiteError::Damaged { path, why })
        }
        Err(ScanError::Maps { path, why }) => {
            Err(SiteError::Damaged { path, why: format!("cannot be read ({why}); scan the slide again") })
        }
        Err(why) => Ok(Err(why.to_string())),
    }
}
