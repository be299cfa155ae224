//! The domain of Consilium: identities, the plan of a study, the ensemble bundle, what travels between a site and the
//! coordinator, the round state machine and the aggregation of updates.
//!
//! Pure and synchronous: no network, no async runtime, no clock, no environment, no file system. Everything that comes
//! from outside is parsed into these types at the rim; inside, a value of such a type is known to be valid.
#![warn(missing_docs)]

pub mod aggregation;
pub mod bundle;
pub mod digest;
pub mod error;
pub mod ids;
pub mod limits;
pub mod messages;
pub mod plan;
pub mod round;
pub mod tensors;
pub mod units;

pub use bundle::{EnsembleManifest, MemberFile};
pub use digest::Digest;
pub use error::{ErrorCode, Invalid};
pub use ids::{GenerationNumber, RoundNumber, SiteId, StudyId};
pub use plan::Plan;
pub use units::{Mpp, Timestamp};
