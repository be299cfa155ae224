//! The science of Consilium: slides, tissue, networks, scanning, uncertainty, acquisition, training and metrics.
//!
//! How networks are computed is its own affair: callers see images, label maps, weights and numbers. It knows nothing of
//! the wire or of rounds.
#![warn(missing_docs)]

pub mod acquisition;
pub mod checkpoint;
pub mod dataset;
pub mod engine;
pub mod import;
pub mod metrics;
mod native;
pub mod network;
pub mod outline;
pub mod scan;
pub mod slides;
#[cfg(test)]
mod testing;
pub mod tissue;
pub mod training;
pub mod uncertainty;
