//! A round survives anything: `kill -9` of a site in the middle of fine-tuning and of the coordinator in the middle of
//! collecting, and the generation that comes out is the one of an undisturbed run, bit for bit.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use consilium_tests::slides::data_folder;
use consilium_tests::{Coordinator, Daemon, Site, ok, path, run, tiny_plan, wait_until};

const SITES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Data of three sites and a central one, a plan, and the ensemble trained on the central data.
fn prepare(root: &Path) -> (PathBuf, PathBuf) {
    data_folder(&root.join("data/central"), 0, &["train", "train"]);
    for (index, site) in SITES.iter().enumerate() {
        let variant = u8::try_from(index + 1).unwrap();
        data_folder(&root.join("data").join(site), variant, &["pool", "pool", "test"]);
    }
    let mut plan = tiny_plan(1);
    plan.fine_tuning.iterations = 60;
    let plan_file = root.join("plan.toml");
    fs::write(&plan_file, plan.to_toml().unwrap()).unwrap();
    let bundle = root.join("bundle");
    let data = root.join("data/central");
    ok("consilium-site", &["train", "--plan", path(&plan_file), "--data", path(&data), "--out", path(&bundle)]);
    (plan_file, bundle)
}

/// Holds a study and returns the files of generation 1, by name.
fn hold_study(root: &Path, data: &Path, plan: &Path, bundle: &Path, disturb: bool) -> Vec<(String, Vec<u8>)> {
    let mut coordinator = Coordinator::start(root);
    let sites = SITES.map(|name| Site::new(root, name, &coordinator.address, &data.join(name)));
    for site in &sites {
        let output = site.enrol(&coordinator.invite(&site.name));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut create = vec!["study", "create", "trial", "--plan", path(plan), "--bundle", path(bundle)];
    create.extend(SITES.iter().flat_map(|site| ["--site", site]));
    coordinator.operator(&create);

    let mut daemons: Vec<Daemon> = vec![sites[0].start()];
    if disturb {
        // Everybody evaluates generation 0; then the other two are held back, so that round 1 stays open.
        let others: Vec<Daemon> = sites[1..].iter().map(Site::start).collect();
        wait_until("round 1", || coordinator.status("trial").contains("updates of round 1"));
        others.into_iter().for_each(Daemon::kill);
        kill_while_fine_tuning(&sites[0], &mut daemons);
        let accepted = |coordinator: &Coordinator| {
            coordinator.answers("trial").iter().any(|(site, what)| site == SITES[0] && what == "update")
        };
        wait_until("the first update to be accepted", || accepted(&coordinator));
        coordinator.kill();
        coordinator.serve();
        assert!(accepted(&coordinator), "an update that was accepted outlives the coordinator's process");
        daemons.extend(sites[1..].iter().map(Site::start));
    } else {
        daemons.extend(sites[1..].iter().map(Site::start));
    }
    coordinator.wait_finished("trial");

    let out = root.join("generation-1");
    coordinator.operator(&["study", "export", "trial", "--generation", "1", "--out", path(&out)]);
    let mut files: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|f| (f.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(f).unwrap())).collect()
}

/// Kills the site while its journal says that it fine-tunes, and starts it again.
fn kill_while_fine_tuning(site: &Site, daemons: &mut Vec<Daemon>) {
    let fine_tuning = || {
        let output = run("consilium-site", &["status", "--config", path(&site.config)]);
        String::from_utf8_lossy(&output.stdout).contains("fine-tun")
    };
    wait_until("fine-tuning", fine_tuning);
    daemons.remove(0).kill();
    assert!(fine_tuning(), "the site must have died in the middle of fine-tuning");
    daemons.push(site.start());
}

#[test]
fn killed_processes_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, bundle) = prepare(folder.path());
    let data = folder.path().join("data");
    let calm = hold_study(&folder.path().join("calm"), &data, &plan, &bundle, false);
    let stormy = hold_study(&folder.path().join("stormy"), &data, &plan, &bundle, true);
    let names: Vec<_> = calm.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ensemble.json", "member-0.safetensors", "member-1.safetensors"]);
    for (a, b) in calm.iter().zip(&stormy) {
        assert!(a == b, "{} differs between the calm and the stormy run", a.0);
    }
    assert_ne!(calm[1].1, fs::read(bundle.join("member-0.safetensors")).unwrap(), "the round must have learned");
}
