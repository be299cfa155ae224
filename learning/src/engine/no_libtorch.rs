//! What stands in for the engine `libtorch` in a program that was built without it.

use consilium_common::bundle::Conventions;
use consilium_common::plan::Architecture;

use super::{EngineError, Precision, TilePredictor};
use crate::network::MemberWeights;

pub(super) fn about() -> Result<String, EngineError> {
    Err(EngineError::NotBuilt)
}

pub(super) fn cuda_cards() -> u32 {
    0
}

pub(super) fn open(
    _card: Option<u32>,
    _precision: Precision,
    _arch: &Architecture,
    _members: &[MemberWeights],
    _conventions: Conventions,
) -> Result<(String, Box<dyn TilePredictor>), EngineError> {
    Err(EngineError::NotBuilt)
}
