//! What the whole-system tests share: real processes of the real binaries on loopback, tiny slides that are real files,
//! and a plan that is real but small. Waiting is always for a condition, with a bound that only a hang can reach.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use consilium_common::plan::{
    Acquisition, Aggregation, Architecture, Augmentation, Gate, Quorum, ScanSettings, Score, Task, Training,
};
use consilium_common::{Mpp, Plan};

pub mod slides;

/// Nothing here takes minutes; only a hang does.
const PATIENCE: Duration = Duration::from_secs(300);

/// The path of one of our binaries, built on first use.
pub fn binary(name: &str) -> PathBuf {
    static BUILD: Once = Once::new();
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    BUILD.call_once(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("Cargo.toml");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--workspace", "--bins", "--quiet", "--manifest-path"]).arg(manifest);
        assert!(cargo.status().unwrap().success(), "the binaries must build");
    });
    folder.join(name)
}

/// Runs a command to its end and returns what it printed.
pub fn run(name: &str, args: &[&str]) -> Output {
    Command::new(binary(name)).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Runs a command that must succeed and returns its standard output.
pub fn ok(name: &str, args: &[&str]) -> String {
    let output = run(name, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} {args:?} failed\n{out}\n{err}");
    out.into_owned()
}

/// Waits until the condition holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that is killed (SIGKILL) when the test drops it or asks for it; its log goes to a file.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a binary in the background.
    pub fn start(name: &str, args: &[&str], log: &Path) -> Self {
        let file = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = Command::new(binary(name))
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log: log.to_owned() }
    }

    /// SIGKILL: no destructor, no flush, no farewell.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        let mut text = String::new();
        fs::File::open(&self.log).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Waits for its end and returns the exit code.
    pub fn exit_code(&mut self) -> i32 {
        let mut code = None;
        wait_until("the process to end", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.and_then(|status| status.code()).unwrap_or(-1)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A coordinator with its folder, on a port of its own.
pub struct Coordinator {
    pub data_dir: PathBuf,
    pub address: String,
    daemon: Option<Daemon>,
}

impl Coordinator {
    /// `init`, a free port in its configuration, `serve`.
    pub fn start(root: &Path) -> Self {
        let data_dir = root.join("coordinator");
        ok("consilium-coordinator", &["init", "--data-dir", path(&data_dir)]);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(data_dir.join("coordinator.toml"), format!("listen = \"127.0.0.1:{port}\"\n")).unwrap();
        let mut coordinator = Self { data_dir, address: format!("https://127.0.0.1:{port}"), daemon: None };
        coordinator.serve();
        coordinator
    }

    /// Starts the server (again) and waits until it answers.
    pub fn serve(&mut self) {
        let log = self.data_dir.with_extension("log");
        self.daemon =
            Some(Daemon::start("consilium-coordinator", &["serve", "--data-dir", path(&self.data_dir)], &log));
        wait_until("the coordinator to answer", || {
            run("consilium-coordinator", &["site", "list", "--data-dir", path(&self.data_dir)]).status.success()
        });
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        self.daemon.as_ref().unwrap().log()
    }

    /// Runs an operator's command against it.
    pub fn operator(&self, args: &[&str]) -> String {
        ok("consilium-coordinator", &[args, &["--data-dir", path(&self.data_dir)]].concat())
    }

    /// Invites a site; returns its one-time token and the CA's fingerprint.
    pub fn invite(&self, site: &str) -> (String, String) {
        let printed = self.operator(&["site", "invite", site]);
        let after = |flag: &str| {
            let at = printed.find(flag).unwrap_or_else(|| panic!("{flag} is missing in: {printed}")) + flag.len();
            printed[at..].split_whitespace().next().unwrap().to_owned()
        };
        (after("--token "), after("--ca-fingerprint "))
    }

    /// The study's phase as `study status` prints it.
    pub fn status(&self, study: &str) -> String {
        let output = run("consilium-coordinator", &["study", "status", study, "--data-dir", path(&self.data_dir)]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What each site has handed in for the present phase, as `study status --json` tells it.
    pub fn answers(&self, study: &str) -> Vec<(String, String)> {
        let status = self.operator(&["study", "status", study, "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let text = |site: &serde_json::Value, key: &str| site[key].as_str().unwrap().to_owned();
        status["sites"].as_array().unwrap().iter().map(|site| (text(site, "site"), text(site, "answered"))).collect()
    }

    /// Waits until the study is finished.
    pub fn wait_finished(&self, study: &str) {
        wait_until("the study to finish", || {
            let status = self.status(study);
            assert!(!status.contains("aborted"), "{status}");
            status.contains("finished")
        });
    }
}

/// A site with its folders.
pub struct Site {
    pub name: String,
    pub root: PathBuf,
    pub config: PathBuf,
}

impl Site {
    /// Writes site.toml for a data folder with an oracle as corrector.
    pub fn new(root: &Path, name: &str, coordinator: &str, data: &Path) -> Self {
        let root = root.join(name);
        fs::create_dir_all(&root).unwrap();
        let config = root.join("site.toml");
        let text = format!(
            "coordinator = \"{coordinator}\"\nsite = \"{name}\"\nstate_dir = \"state\"\ndata_dir = \"{}\"\nthreads = 1\n\n\
             [corrector]\nkind = \"masks\"\n",
            data.display()
        );
        fs::write(&config, text).unwrap();
        Self { name: name.to_owned(), root, config }
    }

    /// Enrols with an invitation.
    pub fn enrol(&self, (token, fingerprint): &(String, String)) -> Output {
        let args = ["enrol", "--config", path(&self.config), "--token", token, "--ca-fingerprint", fingerprint];
        run("consilium-site", &args)
    }

    /// Starts the daemon.
    pub fn start(&self) -> Daemon {
        Daemon::start("consilium-site", &["run", "--config", path(&self.config)], &self.root.join("site.log"))
    }

    /// The folder of its state.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }
}

/// A path as text; temporary folders are always UTF-8 here.
pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// One round, two members, a network of a few hundred weights: seconds, yet every part at work.
pub fn tiny_plan(rounds: u32) -> Plan {
    let mut initial = Training::new(12, 2, 64, 0.05);
    initial.augmentation = Augmentation { flips: true, rotate_scale: false, colour: true, hed: 0.05 };
    let mut fine = Training::new(12, 2, 64, 0.02);
    fine.freeze_norm_statistics = true;
    Plan {
        schema: consilium_common::plan::SCHEMA,
        title: "whole-system test".into(),
        seed: 11,
        rounds,
        members: 2,
        task: Task { classes: vec!["background".into(), "tumour".into()], spacing_um: Mpp::new(2.0).unwrap() },
        architecture: Architecture::plain(2, 4, 3),
        scan: ScanSettings { tile_px: 64, ..ScanSettings::default() },
        acquisition: Acquisition::new(Score::UgaMean, 2, 64, 0.3),
        initial_training: initial,
        fine_tuning: fine,
        rehearsal: Default::default(),
        aggregation: Aggregation::default(),
        quorum: Quorum { min_sites: 1, deadline_s: None },
        gate: Gate::default(),
    }
}
