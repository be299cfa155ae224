//! The binary as a person meets it: exit codes and one sentence for each mistake.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_consilium-coordinator"));
    command.args(arguments).env("CONSILIUM_COORDINATOR_DIR", dir).output().unwrap()
}

fn refused(output: &Output, code: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "`{words}` is missing in: {text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
}

#[test]
fn mistakes_get_a_sentence_and_an_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let house = dir.path().join("house");
    refused(&run(&house, &["serve"]), 64, "create one with `consilium-coordinator init");
    refused(&run(&house, &["study", "list"]), 64, "create one with");
    refused(&run(&house, &["init", "--name", "https://x"]), 64, "without https://");
    let done = run(&house, &["init", "--listen", "127.0.0.1:1"]);
    assert!(done.status.success(), "{done:?}");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.contains("CA fingerprint") && text.contains("consilium-coordinator serve"), "{text}");
    refused(&run(&house, &["init"]), 64, "is not overwritten");
    refused(&run(&house, &["site", "list"]), 69, "consilium-coordinator serve");
    std::fs::write(house.join("coordinator.toml"), "listen = \"127.0.0.1:1\"\nlissten = 1").unwrap();
    refused(&run(&house, &["serve"]), 64, "lissten");
    assert_eq!(run(&house, &["frobnicate"]).status.code(), Some(64));
}
