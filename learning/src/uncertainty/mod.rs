//! How unsure an ensemble is, pixel by pixel, from its members' softmax probabilities.
//!
//! UGA's uncertainty exactly as its authors compute it, predictive entropy, mutual information, and UGA's 8-bit map.
//! All figures are in nats. Nothing here knows slides or networks.

mod maps;
mod pixel;
mod quantise;

pub use maps::{UncertaintyMap, uncertainty_map};
pub use pixel::{Combiner, EPSILON, RowOutput, mutual_information, predictive_entropy, uncertainty};
pub use quantise::{QUANTISATION_NATS, quantise};

#[cfg(test)]
mod tests;
