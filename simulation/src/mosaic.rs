//! A big slide from real fields: they are laid side by side, turned and mirrored by chance, with their masks.
//!
//! For trials of size, speed and memory, where drawn tissue would not do. A band of fields is in memory at a time. With a
//! share of glass, the fields show only inside islands with ragged edges, so that finding tissue has something to do.
//! The same folder and seed give the same bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use consilium_common::plan::UNLABELLED;
use consilium_common::{Mpp, limits};
use consilium_learning::dataset::DataFolder;
use consilium_learning::slides::{PyramidKind, PyramidWriter, SlideError, SlideReader, open_slide, read_mask_at};
use image::{GrayImage, ImageBuffer, Pixel, RgbImage, imageops};
use rayon::prelude::*;

use crate::draw::noise::{Field, fbm, hash2, seed_of, smoothstep, unit};
use crate::experiment::ExperimentError;

/// JPEG quality of the slide.
const QUALITY: u8 = 85;
/// Fields are cut to squares; larger ones would make a band too high.
const MAX_CELL_PX: u32 = 1024;
/// Smaller fields are mostly seams.
const MIN_CELL_PX: u32 = 64;
/// Label pixels of all fields together, which are kept: 1 GiB.
const MAX_LABELS_PX: u64 = 1 << 30;
/// Spacings differ by at most this share of each other.
const SAME_SPACING: f64 = 0.01;
/// Wavelength of islands of tissue.
const ISLAND_UM: f64 = 1500.0;
/// Samples a side from which the cut between tissue and glass is found.
const CUT_SAMPLES: u32 = 200;

/// What to make.
#[derive(Clone, Debug, PartialEq)]
pub struct MosaicOptions {
    /// A data folder with `slides/` and `masks/`, or a folder of such folders.
    pub fields: PathBuf,
    /// Width of the slide in pixels.
    pub width: u32,
    /// Height of the slide in pixels.
    pub height: u32,
    /// The slide to be written.
    pub out: PathBuf,
    /// The mask to be written; beside the slide as `NAME-mask.tif` if none.
    pub mask: Option<PathBuf>,
    /// Seed of choice and turning.
    pub seed: u64,
    /// Share of the slide that is glass, 0 to 1.
    pub glass: f64,
}

/// What was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Mosaic {
    /// The mask's file.
    pub mask: PathBuf,
    /// Slides that fields were taken from.
    pub fields: usize,
    /// Their spacing.
    pub mpp: Mpp,
    /// Size of the slide's file.
    pub slide_bytes: u64,
    /// Size of the mask's file.
    pub mask_bytes: u64,
    /// Wall time.
    pub seconds: f64,
}

/// A slide that fields are cut from.
struct Source {
    slide: Box<dyn SlideReader>,
    labels: GrayImage,
}

/// Writes the slide and its mask. `progress` hears the rows done and the rows in all.
///
/// # Errors
/// The folder has no readable fields, their spacings differ, the size is no slide's, or a file cannot be written.
pub fn mosaic(options: &MosaicOptions, progress: &dyn Fn(u32, u32)) -> Result<Mosaic, ExperimentError> {
    let started = Instant::now();
    if !(0.0..=1.0).contains(&options.glass) {
        return Err(usage(format!("--glass is {} and must be a share from 0 to 1", options.glass)));
    }
    let mask = options.mask.clone().unwrap_or_else(|| beside(&options.out));
    if is_same(&mask, &options.out) {
        return Err(usage("slide and mask would be the same file; give another --mask".to_owned()));
    }
    // One of the two may be what the fields are cut from.
    if let Some(there) = [&options.out, &mask].into_iter().find(|path| path.exists()) {
        return Err(usage(format!("{} is there already; take another --out or --mask", there.display())));
    }
    let sources = sources(&options.fields)?;
    let mpp = common_spacing(&sources)?;
    let (width, height) = (options.width, options.height);
    let mut slide_out =
        PyramidWriter::create(&options.out, width, height, mpp, PyramidKind::Jpeg { quality: QUALITY })?;
    let labels = PyramidKind::Labels { colours: Vec::new() };
    let mut mask_out = PyramidWriter::create(&mask, width, height, mpp, labels)?;
    let plan = Layout::new(options, &sources, mpp);
    let mut top = 0;
    while top < height {
        progress(top, height);
        let rows = plan.cell.min(height - top);
        let (mut pixels, mut labels) = plan.band(&sources, top, rows)?;
        plan.lay_glass(top, rows, &mut pixels, &mut labels);
        slide_out.push_rows(&pixels)?;
        mask_out.push_rows(&labels)?;
        top += rows;
    }
    progress(height, height);
    slide_out.finish()?;
    mask_out.finish()?;
    let bytes = |path: &Path| fs::metadata(path).map(|m| m.len()).map_err(ExperimentError::file(path));
    let (slide_bytes, mask_bytes) = (bytes(&options.out)?, bytes(&mask)?);
    let seconds = started.elapsed().as_secs_f64();
    Ok(Mosaic { mask, fields: sources.len(), mpp, slide_bytes, mask_bytes, seconds })
}

/// Whether two paths of files, which need not be there, are of one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| std::path::absolute(path).ok();
    one == other || whole(one).is_some_and(|one| whole(other) == Some(one))
}

fn usage(why: String) -> ExperimentError {
    ExperimentError::Usage(why)
}

fn beside(slide: &Path) -> PathBuf {
    let mut name = slide.file_stem().unwrap_or_default().to_owned();
    name.push("-mask.tif");
    slide.with_file_name(name)
}

/// Opens every slide of the folder, or of the folders in it.
fn sources(fields: &Path) -> Result<Vec<Source>, ExperimentError> {
    let mut folders = vec![fields.to_owned()];
    if !fields.join("slides").is_dir() {
        let entries = fs::read_dir(fields).map_err(ExperimentError::file(fields))?;
        folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.join("slides").is_dir()).collect();
        folders.sort();
    }
    let (mut sources, mut pixels) = (Vec::new(), 0);
    for folder in &folders {
        for entry in DataFolder::open(folder)?.slides {
            let slide = open_slide(&entry.path, entry.mpp)?;
            let (width, height) = (slide.levels()[0].width, slide.levels()[0].height);
            pixels += u64::from(width) * u64::from(height);
            if pixels > MAX_LABELS_PX {
                let why = format!("{}: more than {MAX_LABELS_PX} pixels of fields; take fewer", fields.display());
                return Err(usage(why));
            }
            let labels = match &entry.mask {
                Some(mask) => read_mask_at(mask, slide.as_ref(), slide.mpp(), limits::MAX_CLASSES)?,
                None => GrayImage::from_pixel(width, height, image::Luma([UNLABELLED])),
            };
            sources.push(Source { slide, labels });
        }
    }
    if sources.is_empty() {
        let why = format!("{}: has no readable slides; give a folder with slides/ in it, or of such", fields.display());
        return Err(usage(why));
    }
    Ok(sources)
}

fn common_spacing(sources: &[Source]) -> Result<Mpp, ExperimentError> {
    let first = sources[0].slide.mpp();
    for source in sources {
        let mpp = source.slide.mpp();
        if (mpp.um_per_px() / first.um_per_px() - 1.0).abs() > SAME_SPACING {
            let path = source.slide.path().display().to_string();
            return Err(usage(format!("{path}: has {mpp} where others have {first}; take fields of one spacing")));
        }
    }
    Ok(first)
}

/// Where which field goes.
struct Layout {
    width: u32,
    height: u32,
    /// Side of a field.
    cell: u32,
    seed: u32,
    glass: f64,
    /// Wavelength of islands in pixels.
    island_px: f32,
    /// Noise below this is glass.
    cut: f32,
}

impl Layout {
    fn new(options: &MosaicOptions, sources: &[Source], mpp: Mpp) -> Self {
        let sides = sources.iter().map(|source| source.labels.width().min(source.labels.height()));
        let cell = sides.filter(|&side| side >= MIN_CELL_PX).min().unwrap_or(MIN_CELL_PX).min(MAX_CELL_PX);
        let mut layout = Self {
            width: options.width,
            height: options.height,
            cell,
            seed: seed_of(&format!("mosaic/{}", options.seed)),
            glass: options.glass,
            island_px: (ISLAND_UM / mpp.um_per_px()) as f32,
            cut: f32::MIN,
        };
        let place = |i: u32, side: u32| (i as f32 + 0.5) * side as f32 / CUT_SAMPLES as f32;
        let at = |i: u32| layout.tissue(place(i % CUT_SAMPLES, layout.width), place(i / CUT_SAMPLES, layout.height));
        let mut samples: Vec<f32> = (0..CUT_SAMPLES * CUT_SAMPLES).map(at).collect();
        samples.sort_by(f32::total_cmp);
        if layout.glass > 0.0 {
            let index = (layout.glass * samples.len() as f64) as usize;
            layout.cut = samples.get(index).copied().unwrap_or(f32::MAX);
        }
        layout
    }

    /// The noise whose hills are tissue.
    fn tissue(&self, x: f32, y: f32) -> f32 {
        fbm(self.seed, x / self.island_px, y / self.island_px, 6)
    }

    /// Pixels and labels of some rows, without glass.
    fn band(&self, sources: &[Source], top: u32, rows: u32) -> Result<(Vec<u8>, Vec<u8>), SlideError> {
        let columns: Vec<u32> = (0..self.width).step_by(self.cell as usize).collect();
        let cells = columns.par_iter().map(|&left| self.field(sources, left / self.cell, top / self.cell));
        let cells: Vec<(RgbImage, GrayImage)> = cells.collect::<Result<_, _>>()?;
        let width = self.width as usize;
        let (mut pixels, mut labels) = (vec![0; width * rows as usize * 3], vec![0; width * rows as usize]);
        let lines = pixels.par_chunks_exact_mut(width * 3).zip(labels.par_chunks_exact_mut(width)).enumerate();
        lines.for_each(|(y, (pixels, labels))| {
            for ((field, mask), &left) in cells.iter().zip(&columns) {
                let (left, count) = (left as usize, self.cell.min(self.width - left) as usize);
                let at = y * self.cell as usize;
                pixels[left * 3..(left + count) * 3].copy_from_slice(&field.as_raw()[at * 3..(at + count) * 3]);
                labels[left..left + count].copy_from_slice(&mask.as_raw()[at..at + count]);
            }
        });
        Ok((pixels, labels))
    }

    /// The field of a cell: which slide, where in it and how turned is the cell's chance.
    fn field(&self, sources: &[Source], column: u32, row: u32) -> Result<(RgbImage, GrayImage), SlideError> {
        let chance = |salt: u32, of: u32| hash2(self.seed.wrapping_add(salt), column as i32, row as i32) % of.max(1);
        let usable: Vec<&Source> =
            sources.iter().filter(|s| s.labels.width().min(s.labels.height()) >= self.cell).collect();
        // Only where all fields are smaller than a cell may be: white, as beyond a slide's edge.
        let Some(source) = usable.get(chance(1, usable.len() as u32) as usize) else {
            let white = RgbImage::from_pixel(self.cell, self.cell, image::Rgb([255; 3]));
            return Ok((white, GrayImage::from_pixel(self.cell, self.cell, image::Luma([UNLABELLED]))));
        };
        let (width, height) = source.labels.dimensions();
        let (x, y) = (chance(2, width - self.cell + 1), chance(3, height - self.cell + 1));
        let pixels = source.slide.read_level(0, x.into(), y.into(), self.cell, self.cell)?;
        let labels = imageops::crop_imm(&source.labels, x, y, self.cell, self.cell).to_image();
        let turn = chance(4, 8);
        Ok((turned(&pixels, turn), turned(&labels, turn)))
    }

    /// Puts glass where the noise is low.
    fn lay_glass(&self, top: u32, rows: u32, pixels: &mut [u8], labels: &mut [u8]) {
        if self.glass == 0.0 {
            return;
        }
        let noise = |x: f32, y: f32| self.tissue(x, y + top as f32);
        let noise = Field::sample(self.width as usize, rows as usize, noise);
        let width = self.width as usize;
        let lines = pixels.par_chunks_exact_mut(width * 3).zip(labels.par_chunks_exact_mut(width)).enumerate();
        lines.for_each(|(row, (pixels, labels))| {
            for (x, (pixel, label)) in pixels.chunks_exact_mut(3).zip(labels).enumerate() {
                // A tenth of a wavelength's change is a soft edge of some pixels.
                let there = smoothstep(self.cut, self.cut + 0.004, noise.at(x as f32, row as f32));
                if there >= 1.0 {
                    continue;
                }
                let grain = hash2(self.seed, x as i32, (top as usize + row) as i32);
                for (channel, base) in pixel.iter_mut().zip([241.0, 240.0, 243.0f32]) {
                    let glass = base + 3.0 * (unit(grain) - 0.5);
                    *channel = (glass + there * (f32::from(*channel) - glass)).round() as u8;
                }
                if there < 0.5 {
                    *label = 0;
                }
            }
        });
    }
}

/// One of the eight ways in which a square can lie.
fn turned<P: Pixel<Subpixel = u8> + 'static>(image: &ImageBuffer<P, Vec<u8>>, turn: u32) -> ImageBuffer<P, Vec<u8>> {
    let mut out = match turn % 4 {
        0 => image.clone(),
        1 => imageops::rotate90(image),
        2 => imageops::rotate180(image),
        _ => imageops::rotate270(image),
    };
    if turn >= 4 {
        imageops::flip_horizontal_in_place(&mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use consilium_learning::slides::write_pyramid;

    use super::*;

    /// Two fields whose pixels say their label in red, so that a mask that is turned otherwise shows.
    fn fields(root: &Path) {
        for (name, shift) in [("a", 0u32), ("b", 7)] {
            for dir in ["slides", "masks"] {
                fs::create_dir_all(root.join(dir)).unwrap();
            }
            let label = |x: u32, y: u32| ((x + shift) / 40 + y / 24) % 3;
            let mpp = Mpp::new(0.5).unwrap();
            let image = RgbImage::from_fn(160, 192, |x, y| image::Rgb([(label(x, y) * 100) as u8; 3]));
            write_pyramid(&root.join(format!("slides/{name}.tif")), &image, mpp, 95).unwrap();
            let mask = GrayImage::from_fn(160, 192, |x, y| image::Luma([label(x, y) as u8]));
            mask.save(root.join(format!("masks/{name}.png"))).unwrap();
        }
    }

    fn options(root: &Path, glass: f64) -> MosaicOptions {
        let (fields, out) = (root.join("data"), root.join("big.tif"));
        MosaicOptions { fields, width: 700, height: 500, out, mask: None, seed: 3, glass }
    }

    #[test]
    fn masks_lie_on_their_pixels_and_runs_repeat() {
        let folder = tempfile::tempdir().unwrap();
        fields(&folder.path().join("data"));
        let options = options(folder.path(), 0.0);
        let made = mosaic(&options, &|_, _| ()).unwrap();
        assert_eq!((made.fields, made.mpp.um_per_px()), (2, 0.5));
        assert_eq!(made.mask, folder.path().join("big-mask.tif"));
        let slide = open_slide(&options.out, None).unwrap();
        let labels = read_mask_at(&made.mask, slide.as_ref(), slide.mpp(), 3).unwrap();
        assert_eq!(labels.dimensions(), (700, 500));
        let pixels = slide.read_level(0, 0, 0, 700, 500).unwrap();
        let fit = pixels.pixels().zip(labels.pixels()).filter(|(p, l)| p.0[0].abs_diff(l.0[0] * 100) < 50).count();
        assert!(fit > 700 * 500 * 97 / 100, "{fit} of {}", 700 * 500);
        let bytes = || (fs::read(&options.out).unwrap(), fs::read(&made.mask).unwrap());
        let first = bytes();
        let refused = mosaic(&options, &|_, _| ()).unwrap_err().to_string();
        assert!(refused.contains("big.tif is there already") && first == bytes(), "{refused}");
        fs::remove_file(&options.out).unwrap();
        fs::remove_file(&made.mask).unwrap();
        mosaic(&options, &|_, _| ()).unwrap();
        assert!(first == bytes());
        let twice = MosaicOptions { out: "a.tif".into(), mask: Some("./a.tif".into()), ..options };
        assert!(mosaic(&twice, &|_, _| ()).unwrap_err().to_string().contains("the same file"));
    }

    #[test]
    fn glass_takes_its_share_and_has_no_labels() {
        let folder = tempfile::tempdir().unwrap();
        fields(&folder.path().join("data"));
        let options = options(folder.path(), 0.4);
        let made = mosaic(&options, &|_, _| ()).unwrap();
        let slide = open_slide(&options.out, None).unwrap();
        let labels = read_mask_at(&made.mask, slide.as_ref(), slide.mpp(), 3).unwrap();
        let pixels = slide.read_level(0, 0, 0, 700, 500).unwrap();
        let glass: Vec<u8> =
            pixels.pixels().zip(labels.pixels()).filter(|(p, _)| p.0[0] > 225).map(|(_, l)| l.0[0]).collect();
        let share = glass.len() as f64 / (700.0 * 500.0);
        assert!((0.3..0.5).contains(&share), "{share}");
        assert!(glass.iter().filter(|&&l| l != 0).count() < glass.len() / 50);
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let folder = tempfile::tempdir().unwrap();
        fields(&folder.path().join("data"));
        let refused = |change: &dyn Fn(&mut MosaicOptions)| {
            let mut options = options(folder.path(), 0.0);
            change(&mut options);
            mosaic(&options, &|_, _| ()).unwrap_err().to_string()
        };
        assert!(refused(&|o| o.glass = 1.5).contains("from 0 to 1"));
        assert!(refused(&|o| o.width = 0).contains("0 x 500"));
        assert!(refused(&|o| o.fields = folder.path().join("none")).contains("none"));
        assert!(refused(&|o| o.mask = Some(o.out.clone())).contains("--mask"));
    }
}
