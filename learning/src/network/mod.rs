//! Networks: the weights of a member and their files, ensembles on disk, and prediction with all members.
//!
//! Callers see images, weights and probabilities; how a network is computed stays in here.

mod buffer;
mod convolution;
mod ensemble;
mod error;
mod features;
pub(crate) mod folded;
mod form;
pub(crate) mod graph;
mod input;
mod kernels;
pub(crate) mod net;
pub(crate) mod norm;
pub(crate) mod planes;
mod predictor;
pub mod random;
mod residual;
pub(crate) mod simd;
mod softmax;
pub(crate) mod weights;

pub use ensemble::Ensemble;
pub use error::WeightsError;
pub use features::Features;
pub use form::EnsembleForm;
pub use input::{InputScale, Shown};
pub use predictor::Predictor;
pub(crate) use softmax::softmax;
pub use weights::{MemberWeights, WeightTensor};

#[cfg(test)]
mod tests;
