//! Tests of the data folder: tables, splits, problems that leave the other slides alone.

use std::fs;
use std::path::Path;

use consilium_common::Mpp;
use image::{GrayImage, RgbImage};

use super::{DataFolder, DatasetError, Split, find, slides_in};
use crate::slides::write_pyramid;
use crate::testing::real_data;

fn slide(folder: &Path, name: &str) {
    fs::create_dir_all(folder.join("slides")).unwrap();
    let path = folder.join("slides").join(format!("{name}.tif"));
    write_pyramid(&path, &RgbImage::new(60, 40), Mpp::new(0.25).unwrap(), 80).unwrap();
}

fn mask(folder: &Path, name: &str, width: u32) {
    fs::create_dir_all(folder.join("masks")).unwrap();
    GrayImage::new(width, 40).save(folder.join("masks").join(format!("{name}.png"))).unwrap();
}

fn names(folder: &DataFolder) -> Vec<&str> {
    folder.slides.iter().map(|s| s.name.as_str()).collect()
}

#[test]
fn slides_masks_and_table_come_together() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for name in ["c", "a", "b"] {
        slide(root, name);
    }
    mask(root, "a", 60);
    fs::write(root.join("slides/.hidden.tif"), b"x").unwrap();
    fs::write(root.join("slides/notes.txt"), b"x").unwrap();
    fs::write(root.join("slides.csv"), "\u{feff}Slide, stage ,mpp,split\na,IIIB,0.5,Train\nb.tif,II,,test\n").unwrap();
    let folder = DataFolder::open(root).unwrap();
    assert_eq!(names(&folder), ["a", "b", "c"]);
    assert_eq!(folder.problems, []);
    assert_eq!(folder.slides[0].mpp.map(Mpp::um_per_px), Some(0.5));
    assert_eq!(folder.slides[0].mask, Some(root.join("masks/a.png")));
    assert_eq!(folder.slides.iter().map(|s| s.split).collect::<Vec<_>>(), [Split::Train, Split::Test, Split::Pool]);
    assert_eq!(folder.of(Split::Pool).map(|s| s.name.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(folder.slide("b").unwrap().mpp, None);
    assert_eq!(folder.slides.iter().map(|s| s.stage.as_deref()).collect::<Vec<_>>(), [Some("IIIB"), Some("II"), None]);
}

#[test]
fn a_table_in_the_parent_folder_serves_several_sites() {
    let root = tempfile::tempdir().unwrap();
    let (east, west) = (root.path().join("east"), root.path().join("west"));
    slide(&east, "a");
    slide(&west, "a");
    fs::write(root.path().join("slides.csv"), "site;slide;mpp\neast;a;0,5\nwest;a;0,75\nwest;gone;1\n").unwrap();
    assert_eq!(DataFolder::open(&east).unwrap().slides[0].mpp.map(Mpp::um_per_px), Some(0.5));
    let folder = DataFolder::open(&west).unwrap();
    assert_eq!(folder.slides[0].mpp.map(Mpp::um_per_px), Some(0.75));
    assert_eq!(folder.problems.len(), 1);
    assert!(folder.problems[0].why.contains("slides/ has no such file"), "{:?}", folder.problems);
    // The folder's own table wins.
    fs::write(west.join("slides.csv"), "slide,split\na,test\n").unwrap();
    let folder = DataFolder::open(&west).unwrap();
    assert_eq!((folder.slides[0].mpp, folder.slides[0].split, folder.problems.len()), (None, Split::Test, 0));
}

#[test]
fn what_is_broken_is_named_and_the_others_go_on() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for name in ["good", "mask-size", "no-mask", "number", "split", "stage", "stage-lines", "twice", "two-lines"] {
        slide(root, name);
    }
    mask(root, "mask-size", 70);
    fs::write(root.join("slides/broken.svs"), b"not a slide").unwrap();
    fs::write(root.join("slides/vendor.ndpi"), b"no slide either").unwrap();
    fs::write(root.join("slides/twice.svs"), b"x").unwrap();
    fs::write(root.join("slides/good.ndpi"), b"II*\0").unwrap();
    RgbImage::new(9, 9).save(root.join("slides/flat.png")).unwrap();
    let table = "slide,mpp,split,stage\nno-mask,,train\nnumber,fine,\nsplit,,later\ntwo-lines,,\ntwo-lines,,\nflat,,\n";
    let stages = format!("stage,,,{}\nstage-lines,,,\"mi\ncro\"\n", "macro".repeat(9));
    fs::write(root.join("slides.csv"), table.to_owned() + &stages).unwrap();
    let folder = DataFolder::open(root).unwrap();
    assert_eq!(names(&folder), ["good"]);
    let expected = [
        ("broken", "no TIFF, SVS, DICOM, OME-Zarr, PNG or JPEG"),
        ("flat", "column `mpp` of slides.csv"),
        ("mask-size", "the mask is 70 x 40 and its slide 60 x 40"),
        ("no-mask", "add masks/no-mask.png or change the split"),
        ("number", "the mpp `fine`; use micrometres per pixel"),
        ("split", "the split `later`; use train, pool or test"),
        ("stage", "a stage that is no word or two; use up to 40 characters"),
        ("stage-lines", "a stage that is no word or two"),
        ("twice", "more than once"),
        ("two-lines", "names this slide twice"),
        ("vendor", "Hamamatsu NDPI slide"),
    ];
    assert_eq!(folder.problems.len(), expected.len(), "{:#?}", folder.problems);
    for (problem, (name, why)) in folder.problems.iter().zip(expected) {
        assert!(problem.slide == name && problem.why.contains(why), "{problem:?} is not {name}: {why}");
    }
}

/// Something that begins like a DICOM file and says nothing.
fn instance(path: &Path) {
    fs::write(path, [&[0; 128][..], b"DICM"].concat()).unwrap();
}

#[test]
fn slides_are_files_and_folders() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    slide(root, "a");
    let slides = root.join("slides");
    for folder in ["b.ome.zarr", "C.ZARR", "dicom", "notes", "m", ".hidden.zarr"] {
        fs::create_dir(slides.join(folder)).unwrap();
    }
    instance(&slides.join("dicom/IM0001"));
    instance(&slides.join("m/Data0000.dat"));
    instance(&slides.join("e.dcm"));
    fs::write(slides.join("notes/text.txt"), "x").unwrap();
    for file in ["m.mrxs", "n.ndpi", "v.VMU", "old.vsi", "f.czi", "f.tif", "g.png", "g.jpg", "no.dcm"] {
        fs::write(slides.join(file), "x").unwrap();
    }
    let found = slides_in(&slides).unwrap();
    let named = |name: &str| found.slides.iter().find(|(n, _)| n == name).map(|(_, path)| path.clone());
    let all: Vec<&str> = found.slides.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(all, ["C", "a", "b", "dicom", "e", "f", "m", "n", "no", "v"]);
    assert_eq!(named("f"), Some(slides.join("f.tif")), "the converted copy counts");
    assert_eq!(named("m"), Some(slides.join("m.mrxs")), "not its side folder");
    let problems: Vec<&str> = found.problems.iter().map(|problem| problem.slide.as_str()).collect();
    assert_eq!(problems, ["g", "old"]);
    // One slide is itself, whatever it is.
    for (path, name) in [("a.tif", "a"), ("b.ome.zarr", "b"), ("dicom", "dicom")] {
        fs::write(slides.join("b.ome.zarr/.zgroup"), "{}").unwrap();
        let path = slides.join(path);
        assert_eq!(slides_in(&path).unwrap().slides, [(name.to_owned(), path)]);
    }
    assert!(slides_in(&slides.join("gone")).is_err());
    assert!(slides_in(&slides.join("notes")).unwrap().slides.is_empty());
    // The data folder opens them: what is no slide is named with its cause.
    let folder = DataFolder::open(root).unwrap();
    assert_eq!(names(&folder), ["a"]);
    assert_eq!(folder.problems.len(), 11, "{:#?}", folder.problems);
}

#[test]
fn what_lies_beside_the_only_slide_is_named() {
    let root = tempfile::tempdir().unwrap();
    instance(&root.path().join("IM0001"));
    fs::write(root.path().join("old.vsi"), "x").unwrap();
    let found = slides_in(root.path()).unwrap();
    assert_eq!((found.slides.len(), found.slides[0].1.as_path()), (1, root.path()));
    assert_eq!(found.problems.iter().map(|problem| problem.slide.as_str()).collect::<Vec<_>>(), ["old"]);
}

#[test]
fn a_folder_of_too_many_files_is_to_be_split() {
    let root = tempfile::tempdir().unwrap();
    for name in ["a.tif", "b.tif", "c.tif"] {
        fs::write(root.path().join(name), "x").unwrap();
    }
    assert_eq!(find::candidates_up_to(root.path(), 3).unwrap().slides.len(), 3);
    let text = find::candidates_up_to(root.path(), 2).unwrap_err().to_string();
    assert!(text.contains("more than 2 files") && text.contains("split it"), "{text}");
}

#[test]
fn folders_and_tables_that_are_none() {
    let root = tempfile::tempdir().unwrap();
    let message = DataFolder::open(root.path()).unwrap_err().to_string();
    assert!(message.contains("put the slides into `slides/`"), "{message}");
    slide(root.path(), "a");
    fs::write(root.path().join("slides.csv"), "name,mpp\na,0.5\n").unwrap();
    let error = DataFolder::open(root.path()).unwrap_err();
    assert!(matches!(error, DatasetError::Table { .. }) && error.to_string().contains("no column `slide`"), "{error}");
}

#[test]
fn the_sites_of_the_real_data_open() {
    let Some(root) = real_data("monuseg") else { return };
    for (site, slides) in
        [("roswell", 7), ("pittsburgh", 5), ("thoracic", 7), ("gastrointestinal", 5), ("bladder-brain", 6)]
    {
        let folder = DataFolder::open(&root.join(site)).unwrap();
        assert_eq!((folder.slides.len(), folder.problems.len()), (slides, 0), "{site}: {:?}", folder.problems);
        assert!(folder.slides.iter().all(|s| s.mask.is_some() && s.mpp == Mpp::new(0.25).ok()));
    }
}
