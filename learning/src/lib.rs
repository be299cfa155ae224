//! The science of Consilium: slides, tissue, networks, scanning, uncertainty, acquisition, training and metrics.
//!
//! The only crate that knows burn, and it keeps that to itself: callers see images, label maps, weights and numbers.
//! It knows nothing of the network or of rounds.
#![warn(missing_docs)]

pub mod acquisition;
pub mod dataset;
pub mod metrics;
pub mod network;
pub mod scan;
pub mod slides;
pub mod tissue;
pub mod training;
pub mod uncertainty;
