//! The site client: what runs in a hospital. A daemon that takes part in studies, and offline commands over the same code.
//!
//! No image leaves: the link sends a short list of types (updates, evaluations, progress figures, weight deltas) and
//! writes each to a ledger first. Everything is durable before the next step begins, so that a crash at any moment
//! changes nothing but the time it takes.

mod agent;
mod blobs;
mod boot;
mod clock;
pub mod config;
pub mod corrector;
pub mod doctor;
mod enrol;
mod error;
mod files;
mod fingerprint;
mod identity;
mod journal;
pub mod layout;
pub mod ledger;
mod link;
pub mod offline;
mod records;
mod scanner;
mod slide_record;
mod status;
#[cfg(test)]
mod testing;
mod work;

pub use boot::{run, run_with};
pub use config::{CorrectorConfig, SiteConfig};
pub use enrol::{EnrolReport, enrol};
pub use error::SiteError;
pub use link::LinkError;
pub use records::{EvaluationReport, PatchReport, SlideReport};
pub use status::status;
