//! `consilium-site scan` as people use it: killed in the middle and gone on with, with broken slides among the others,
//! and looked at before it starts.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use consilium_common::Mpp;
use consilium_learning::slides::write_pyramid;
use consilium_tests::slides::data_folder;
use consilium_tests::{Daemon, ok, path, run, tiny_plan, wait_until};
use image::{Rgb, RgbImage};

/// A bundle that was trained a little.
fn bundle(root: &Path) -> PathBuf {
    data_folder(&root.join("central"), 0, &["train"]);
    let plan = root.join("plan.toml");
    fs::write(&plan, tiny_plan(1).to_toml().unwrap()).unwrap();
    let bundle = root.join("bundle");
    let data = root.join("central");
    ok("consilium-site", &["train", "--plan", path(&plan), "--data", path(&data), "--out", path(&bundle)]);
    bundle
}

/// A slide that takes a few seconds: tissue everywhere, dozens of slabs high.
fn big_slide(file: &Path) {
    let image = RgbImage::from_fn(2600, 2200, |x, y| {
        let grain = ((x * 31 + y * 17 + x * y * 7) % 23) as u8;
        if (x / 90 + y / 70) % 3 == 0 { Rgb([110 + grain, 70 + grain, 150]) } else { Rgb([220 - grain, 150, 190]) }
    });
    write_pyramid(file, &image, Mpp::new(1.0).unwrap(), 90).unwrap();
}

/// Every file of a folder but the timings, which differ from run to run.
fn outputs(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let named = files.map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), file));
    named.filter(|(name, _)| !name.contains("timing")).map(|(name, file)| (name, fs::read(file).unwrap())).collect()
}

#[test]
fn a_scan_that_is_killed_goes_on_and_gives_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let bundle = bundle(root.path());
    let slide = root.path().join("big.tif");
    big_slide(&slide);
    let scan = |out: &'static str| {
        let out = root.path().join(out).to_str().unwrap().to_owned();
        let args =
            ["scan", path(&slide), "--bundle", path(&bundle), "--tile-px", "64", "--step", "0.25", "--out", &out];
        args.map(str::to_owned).to_vec()
    };
    let words = |args: &[String]| args.to_vec();
    let whole = words(&scan("whole"));
    ok("consilium-site", &whole.iter().map(String::as_str).collect::<Vec<_>>());

    let mut args = words(&scan("parts"));
    args.push("--resume".to_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let maps = root.path().join("parts/big/.scan");
    let daemon = Daemon::start("consilium-site", &args, &root.path().join("log"));
    let slabs = || {
        let lanes = fs::read_dir(&maps).into_iter().flatten().flatten();
        lanes.flat_map(|lane| fs::read_dir(lane.path()).into_iter().flatten()).count()
    };
    wait_until("some of the maps", || slabs() > 4);
    daemon.kill();
    assert!(!root.path().join("parts/big/big.json").exists(), "it was killed before its end");
    let kept = slabs();
    assert!(kept > 0);
    let printed = ok("consilium-site", &args);
    assert!(printed.contains("1 slides scanned"), "{printed}");
    let (whole, parts) = (outputs(&root.path().join("whole/big")), outputs(&root.path().join("parts/big")));
    assert_eq!(whole.keys().collect::<Vec<_>>(), parts.keys().collect::<Vec<_>>());
    for (name, bytes) in &whole {
        assert!(parts[name] == *bytes, "{name} differs");
    }
    assert!(whole.len() >= 9 && !whole.keys().any(|name| name.starts_with('.')), "{:?}", whole.keys());
    let again = ok("consilium-site", &args);
    assert!(again.contains("was finished before"), "{again}");
}

#[test]
fn broken_slides_are_named_and_the_others_scanned() {
    let root = tempfile::tempdir().unwrap();
    let bundle = bundle(root.path());
    let slides = root.path().join("slides");
    data_folder(root.path(), 3, &["pool", "pool"]);
    fs::write(slides.join("notes.tif"), "not a slide").unwrap();
    let good = fs::read(slides.join("slide-0.tif")).unwrap();
    fs::write(slides.join("half.tif"), &good[..good.len() / 2]).unwrap();
    let out = root.path().join("out");
    let args = ["scan", path(&slides), "--bundle", path(&bundle), "--tile-px", "64", "--out", path(&out)];
    let looked = run("consilium-site", &[&args[..], &["--dry-run"]].concat());
    assert!(!out.exists(), "a dry run writes nothing");
    let text = String::from_utf8_lossy(&looked.stdout).into_owned();
    assert!(text.contains("slide-1") && text.contains("on this machine"), "{text}");

    let done = run("consilium-site", &args);
    let (printed, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.status.code(), Some(69), "{printed}{errors}");
    assert!(printed.contains("2 slides scanned"), "{printed}");
    for (name, why) in [("notes", "is no "), ("half", "copy")] {
        let line = errors.lines().find(|line| line.contains(&format!("left out: {name}"))).unwrap_or_default();
        assert!(line.contains(why), "{name}: {errors}");
    }
    let one = run("consilium-site", &[&args[..], &["--only", "slide-1"]].concat());
    assert_eq!(one.status.code(), Some(0));
    let none = run("consilium-site", &[&args[..], &["--only", "slide-9"]].concat());
    assert_eq!(none.status.code(), Some(64), "a name that is not there is a mistake of the caller");
}
