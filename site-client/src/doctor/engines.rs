//! What computes scans and fine-tunings here, and how fast.

use consilium_common::plan::{Architecture, Training};
use consilium_learning::engine::{self, Device};
use consilium_learning::network::MemberWeights;
use consilium_learning::training::{Trainer, training_speed};

use super::Check;
use crate::config::SiteConfig;

/// Networks, features of the first stage, stages and side of the tiles in the speed test.
const SPEED: (u64, usize, usize, u32) = (5, 16, 5, 256);
/// Length of each speed test.
const SECONDS: f64 = 10.0;

/// What will compute a scan and a fine-tuning, and what could.
pub(super) fn chosen(config: &SiteConfig) -> Vec<Check> {
    let arch = Architecture::plain(2, 8, 3);
    let member = [MemberWeights::initialise(&arch, 0)];
    let correct = "correct `device` in site.toml, or leave it out";
    let mut checks = vec![match engine::open_members(config.device, &arch, &member, 64) {
        Ok(engine) => Check::ok("engine", engine.why()),
        Err(e) => Check::fail("engine", e.to_string(), correct),
    }];
    checks.push(match Trainer::on(config.device) {
        Ok((_, why)) => Check::ok("fine-tuning", why),
        Err(e) => Check::fail("fine-tuning", e.to_string(), correct),
    });
    // What is not there is no fault: scans work without it.
    let others = engine::survey().into_iter();
    checks.extend(others.map(|state| Check::ok(format!("engine {}", state.device), state.about)));
    checks
}

/// Each engine measured for ten seconds at scanning and, where it trains, for ten at fine-tuning.
pub(super) fn speeds() -> Vec<Check> {
    let (members, base, stages, side) = SPEED;
    let arch = Architecture::plain(2, base, stages);
    let members: Vec<MemberWeights> = (0..members).map(|seed| MemberWeights::initialise(&arch, seed)).collect();
    let there = engine::survey().into_iter().filter(|state| state.there);
    there.map(|state| speed(state.device, &arch, &members, side)).collect()
}

fn speed(device: Device, arch: &Architecture, members: &[MemberWeights], side: u32) -> Check {
    let what = format!("speed {device}");
    let next = "run `doctor` again when the machine does nothing else; if it stays so, set another `device`";
    let engine = match engine::open_members(device, arch, members, side) {
        Ok(engine) => engine,
        Err(e) => return Check::warn(what, e.to_string(), next),
    };
    let mut found = match engine::speed(engine.predictor(), side, SECONDS) {
        Ok(tiles) => format!("scans {tiles:.1} tiles of {side} px a second with {} networks", members.len()),
        Err(e) => return Check::warn(what, e.to_string(), next),
    };
    // What does not train itself leaves it to our own kernels, which have a line of their own.
    let trainer = Trainer::on(device).ok().map(|(trainer, _)| trainer);
    if let Some(trainer) = trainer.filter(|&trainer| trainer != Trainer::Cpu || device == Device::Cpu) {
        let settings = Training { freeze_norm_statistics: true, ..Training::new(1, 4, side, 0.01) };
        match training_speed(trainer, arch, &members[0], &settings, SECONDS) {
            Ok(patches) => found.push_str(&format!(", fine-tunes on {patches:.1} patches a second")),
            Err(e) => return Check::warn(what, e.to_string(), next),
        }
    }
    Check::ok(what, found)
}
