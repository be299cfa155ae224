//! Consilium on one machine: draws centres' slides or takes data folders that exist, trains the first ensemble at the
//! central centre, runs a real coordinator and real sites over loopback mutual TLS, and reports what came of it.

pub mod active;
pub mod cli;
pub mod compare;
pub mod draw;
pub mod experiment;
mod fields;
mod files;
mod look;
pub mod mosaic;
pub mod rare;
pub mod report;
pub mod work;
