//! What all users of an ensemble need to know of it.

use consilium_common::bundle::Conventions;
use consilium_common::plan::Architecture;

/// What a scan needs to know of an ensemble.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnsembleForm {
    /// Networks in the ensemble.
    pub members: usize,
    /// Classes, background included.
    pub classes: usize,
    /// What a tile's sides should be multiples of; others are padded at the right and bottom and the result is cut back.
    pub total_stride: u32,
    /// How the ensemble is used.
    pub conventions: Conventions,
}

impl EnsembleForm {
    /// The form of so many members of an architecture.
    pub fn new(arch: &Architecture, members: usize, conventions: Conventions) -> Self {
        Self { members, classes: arch.classes, total_stride: arch.total_stride(), conventions }
    }
}
