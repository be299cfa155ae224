//! The wire: generated code, conversions between it and the domain, and the one mapping of errors to gRPC status.
//!
//! Nothing beyond this crate and the `rpc` and `link` modules of the daemons names a generated type.

pub mod channel;
mod convert;
pub mod status;

/// Generated messages, clients and servers of package `consilium.v1`.
#[allow(clippy::all, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::wildcard_imports)]
pub mod v1 {
    tonic::include_proto!("consilium.v1");
}

pub use convert::{digest_from, parse_id};
