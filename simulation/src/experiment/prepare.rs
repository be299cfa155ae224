//! Data for the sites: drawn, or taken from folders that exist. Each site gets a data folder of its own under the work
//! folder; for existing data it holds links to slides and masks and a `slides.csv` with the split that the seed fixes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use consilium_common::SiteId;
use consilium_common::plan::UNLABELLED;
use consilium_learning::dataset::{DataFolder, SlideEntry, Split};
use consilium_learning::slides::{open_slide, thumbnail};
use image::RgbImage;
use rand::seq::SliceRandom;

use super::ExperimentError;
use super::console::Console;
use super::demo_plan::{
    CENTRAL_SLIDES, MIN_TEST, Material, QUICK_CENTRAL_SLIDES, QUICK_SITE_SLIDES, SITE_SLIDES, SITES, TEST_SHARE,
};
use super::options::{Options, Source};
use super::workspace::Workspace;
use crate::draw::noise::rng_of;
use crate::draw::{centres, write_centre};

/// The sites with their data folders; the central one is among them.
pub(crate) struct Prepared {
    pub(crate) sites: Vec<SiteId>,
    pub(crate) central: SiteId,
    pub(crate) material: Material,
}

/// Draws or links the data of every site.
pub(crate) fn prepare(
    options: &Options,
    workspace: &Workspace,
    console: &Console,
    stop: &AtomicBool,
) -> Result<Prepared, ExperimentError> {
    match &options.source {
        Source::Drawn => draw(options, workspace, console, stop),
        Source::Folders { data, central } => link(options, data, central, workspace, console),
    }
}

fn draw(
    options: &Options,
    workspace: &Workspace,
    console: &Console,
    stop: &AtomicBool,
) -> Result<Prepared, ExperimentError> {
    let centres = centres(options.sites.unwrap_or(SITES), options.seed);
    let (central_slides, site_slides) =
        if options.quick { (QUICK_CENTRAL_SLIDES, QUICK_SITE_SLIDES) } else { (CENTRAL_SLIDES, SITE_SLIDES) };
    let of = |index: usize| if index == 0 { central_slides } else { site_slides };
    let total: usize = (0..centres.len()).map(|i| of(i).learn + of(i).test).sum();
    let bar = console.stage("drawing slides", total as u64);
    let mut sites = Vec::new();
    for (index, centre) in centres.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Err(ExperimentError::Stopped);
        }
        write_centre(&workspace.data(&centre.name), centre, options.seed, of(index), &|| bar.advance(1))?;
        sites.push(centre.name.parse::<SiteId>()?);
    }
    bar.finish(&format!("{total} slides of {} centres drawn", centres.len()));
    let central = sites[0].clone();
    sites.sort();
    let material = Material {
        title: format!("Tumour in drawn tissue, taught by {} hospitals", words(sites.len())),
        classes: vec!["background".into(), "tumour".into()],
        spacing_um: 4.0,
        drawn: true,
        sites: sites.len(),
    };
    Ok(Prepared { sites, central, material })
}

fn words(number: usize) -> String {
    const WORDS: [&str; 7] = ["two", "three", "four", "five", "six", "seven", "eight"];
    number.checked_sub(2).and_then(|i| WORDS.get(i)).map_or(number.to_string(), |w| (*w).to_owned())
}

fn link(
    options: &Options,
    data: &Path,
    central: &str,
    workspace: &Workspace,
    console: &Console,
) -> Result<Prepared, ExperimentError> {
    let names = find_sites(data, central, options.sites)?;
    let folders: Vec<PathBuf> = names.iter().map(|name| data.join(name.as_str())).collect();
    let material = material_of(data, &folders, console)?;
    for site in &names {
        let folder = DataFolder::open(&data.join(site.as_str()))?;
        overlay(&folder, site, site.as_str() == central, options.seed, &workspace.data(site.as_str()))?;
    }
    Ok(Prepared { sites: names, central: central.parse()?, material })
}

/// The folders with slides/ in a folder, sorted: the central site's and at most so many in all.
pub(crate) fn find_sites(data: &Path, central: &str, most: Option<usize>) -> Result<Vec<SiteId>, ExperimentError> {
    let name = |path: PathBuf| {
        folder_name(&path).parse().map_err(|e| ExperimentError::Usage(format!("{}: {e}", path.display())))
    };
    let mut names: Vec<SiteId> = find_folders(data)?.into_iter().map(name).collect::<Result<_, _>>()?;
    let Some(home) = names.iter().position(|n| n.as_str() == central) else {
        let known: Vec<&str> = names.iter().map(SiteId::as_str).collect();
        return Err(ExperimentError::Usage(format!(
            "{} has no site `{central}` to be the central one; its folders with slides/ are: {}",
            data.display(),
            known.join(", ")
        )));
    };
    let central = names.remove(home);
    names.truncate(most.map_or(usize::MAX, |n| n.saturating_sub(1)));
    names.push(central.clone());
    names.sort();
    if names.len() < 2 {
        return Err(ExperimentError::Usage(format!("{} needs at least one site beside {central}", data.display())));
    }
    Ok(names)
}

/// The folders with slides/ in a folder, sorted.
pub(crate) fn find_folders(data: &Path) -> Result<Vec<PathBuf>, ExperimentError> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(data).map_err(ExperimentError::file(data))? {
        let path = entry.map_err(ExperimentError::file(data))?.path();
        if path.join("slides").is_dir() {
            folders.push(path);
        }
    }
    if folders.is_empty() {
        return Err(ExperimentError::Usage(format!("{} holds no folder with slides/", data.display())));
    }
    folders.sort();
    Ok(folders)
}

/// What the built-in plan needs to know of data folders; slides that cannot be used are named.
pub(crate) fn material_of(data: &Path, folders: &[PathBuf], console: &Console) -> Result<Material, ExperimentError> {
    let (mut classes, mut finest) = (1u8, f64::MAX);
    for path in folders {
        let (folder, site) = (DataFolder::open(path)?, folder_name(path));
        for problem in &folder.problems {
            console.warn(&format!("{site}: {} is left out: {}", problem.slide, problem.why));
        }
        if folder.slides.is_empty() {
            let why = folder.problems.first().map_or("it is empty".to_owned(), |p| format!("{}: {}", p.slide, p.why));
            return Err(ExperimentError::Usage(format!("site {site} has no usable slide; {why}")));
        }
        for slide in &folder.slides {
            classes = classes.max(slide.mask.as_deref().map_or(Ok(1), highest_label)?);
            finest = finest.min(open_slide(&slide.path, slide.mpp)?.mpp().um_per_px());
        }
    }
    let named = |c: u8| if classes == 1 { "foreground".to_owned() } else { format!("class-{c}") };
    Ok(Material {
        title: format!("{} taught by {} sites", capital(&folder_name(data)), folders.len()),
        classes: std::iter::once("background".to_owned()).chain((1..=classes).map(named)).collect(),
        spacing_um: finest * 2.0,
        drawn: false,
        sites: folders.len(),
    })
}

pub(crate) fn folder_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "Data".to_owned(), |n| n.to_string_lossy().into_owned())
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Links a site's slides and masks into a folder of its own and writes the split.
fn overlay(folder: &DataFolder, site: &SiteId, central: bool, seed: u64, target: &Path) -> Result<(), ExperimentError> {
    for sub in ["slides", "masks"] {
        let path = target.join(sub);
        fs::create_dir_all(&path).map_err(ExperimentError::file(&path))?;
    }
    let table = target.join("slides.csv");
    let fail = |e: csv::Error| ExperimentError::Usage(format!("{}: {e}", table.display()));
    let mut writer = csv::Writer::from_path(&table).map_err(fail)?;
    writer.write_record(["slide", "mpp", "split"]).map_err(fail)?;
    for (slide, split) in splits(&folder.slides, site, central, seed) {
        link_into(&slide.path, &target.join("slides"))?;
        if let Some(mask) = &slide.mask {
            link_into(mask, &target.join("masks"))?;
        }
        let mpp = slide.mpp.map_or(String::new(), |m| m.um_per_px().to_string());
        let word = match split {
            Split::Train => "train",
            Split::Pool => "pool",
            Split::Test => "test",
        };
        writer.write_record([slide.name.as_str(), &mpp, word]).map_err(fail)?;
    }
    writer.flush().map_err(ExperimentError::file(&table))
}

/// The split of every slide: as the site gives it, else drawn from the seed and the site's name. Only slides with a mask
/// are held out.
fn splits<'a>(slides: &'a [SlideEntry], site: &SiteId, central: bool, seed: u64) -> Vec<(&'a SlideEntry, Split)> {
    if slides.iter().any(|s| s.split != Split::Pool) {
        return slides.iter().map(|s| (s, s.split)).collect();
    }
    let mut masked: Vec<&str> = slides.iter().filter(|s| s.mask.is_some()).map(|s| s.name.as_str()).collect();
    masked.shuffle(&mut rng_of(&format!("{seed}/split/{site}")));
    let wanted = ((masked.len() as f64 * TEST_SHARE).round() as usize).max(MIN_TEST);
    masked.truncate(wanted.min(masked.len().saturating_sub(1)));
    let split = |slide: &SlideEntry| match (masked.contains(&slide.name.as_str()), central && slide.mask.is_some()) {
        (true, _) => Split::Test,
        (false, true) => Split::Train,
        (false, false) => Split::Pool,
    };
    slides.iter().map(|s| (s, split(s))).collect()
}

fn link_into(file: &Path, folder: &Path) -> Result<(), ExperimentError> {
    let source = file.canonicalize().map_err(ExperimentError::file(file))?;
    let target = folder.join(file.file_name().unwrap_or_default());
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(&source, &target);
    #[cfg(not(unix))]
    let linked = fs::copy(&source, &target).map(|_| ());
    linked.map_err(ExperimentError::file(&target))
}

/// The highest class of a mask; 255 means not labelled.
fn highest_label(mask: &Path) -> Result<u8, ExperimentError> {
    let unreadable =
        |why: String| ExperimentError::Usage(format!("{} cannot be read as a mask: {why}", mask.display()));
    if mask.extension().is_some_and(|e| !e.eq_ignore_ascii_case("png")) {
        return Ok(1);
    }
    let labels = image::open(mask).map_err(|e| unreadable(e.to_string()))?.to_luma8();
    let highest = labels.as_raw().iter().copied().filter(|v| *v != UNLABELLED).max().unwrap_or(0);
    if highest == 0 && labels.as_raw().contains(&UNLABELLED) {
        return Err(unreadable(
            "it holds 255, which means not labelled, and no class; save the foreground as 1".into(),
        ));
    }
    Ok(highest)
}

/// A site's slides by use and a picture of the first one, for the report.
pub(crate) fn portrait(workspace: &Workspace, site: &SiteId) -> Result<(usize, usize, RgbImage), ExperimentError> {
    let folder = DataFolder::open(&workspace.data(site.as_str()))?;
    let test = folder.of(Split::Test).count();
    let learn = folder.slides.len() - test;
    let first: Option<PathBuf> = folder.slides.first().map(|s| s.path.clone());
    let picture = match first {
        Some(path) => thumbnail(open_slide(&path, folder.slides[0].mpp)?.as_ref(), 420)?,
        None => RgbImage::new(1, 1),
    };
    Ok((learn, test, picture))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slides(count: usize) -> Vec<SlideEntry> {
        let entry = |i: usize| SlideEntry {
            name: format!("s{i}"),
            path: format!("s{i}.tif").into(),
            tissue: None,
            mask: Some(format!("s{i}.png").into()),
            split: Split::Pool,
            mpp: None,
            stage: None,
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn the_seed_fixes_who_is_held_out() {
        let (site, slides): (SiteId, _) = ("a".parse().unwrap(), slides(7));
        let of = |seed| splits(&slides, &site, false, seed).into_iter().map(|s| s.1).collect::<Vec<_>>();
        assert_eq!(of(3), of(3));
        assert!((0..20).any(|seed| of(seed) != of(3)));
        assert_eq!(of(3).iter().filter(|s| **s == Split::Test).count(), 2);
        assert_eq!(splits(&slides, &site, true, 3).iter().filter(|s| s.1 == Split::Train).count(), 5);
    }

    #[test]
    fn a_mask_of_0_and_255_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.png");
        image::GrayImage::from_fn(4, 4, |x, _| image::Luma([if x < 2 { 255 } else { 0 }])).save(&path).unwrap();
        assert!(highest_label(&path).unwrap_err().to_string().contains("save the foreground as 1"));
        image::GrayImage::from_fn(4, 4, |x, _| image::Luma([[255, 0, 2, 1][x as usize]])).save(&path).unwrap();
        assert_eq!(highest_label(&path).unwrap(), 2);
        let upper = folder.path().join("M.PNG");
        std::fs::rename(&path, &upper).unwrap();
        assert_eq!(highest_label(&upper).unwrap(), 2);
    }

    #[test]
    fn a_given_split_stays() {
        let mut slides = slides(3);
        slides[1].split = Split::Test;
        let splits = splits(&slides, &"a".parse().unwrap(), true, 1);
        assert_eq!(splits.iter().map(|s| s.1).collect::<Vec<_>>(), [Split::Pool, Split::Test, Split::Pool]);
    }
}
