//! The coordinator: holds studies, hands out generations, takes in updates, aggregates them, and keeps all of it through
//! crashes, full disks and slow lines. It sees flat tensors and numbers, never an image.
//!
//! `boot` starts and stops it; `rpc` is the wire; `engine` owns the state and is the only one to change it; `store` and
//! `blobs` keep it; `identity` says who is who; `client` is the operator's end, for the command line and the simulator.

mod blobs;
mod boot;
pub mod cli;
pub mod client;
mod clock;
mod config;
mod engine;
mod error;
mod identity;
mod presence;
mod rpc;
mod store;
#[cfg(test)]
mod testing;
pub mod view;

pub use boot::serve;
pub use config::{CoordinatorConfig, default_listen};
pub use error::{CoordinatorError, Result};
pub use identity::init::{InitReport, init, init_listening};
