//! Why a training cannot start or did not end.

use crate::network::WeightsError;

/// A training that failed, with the next step.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// No image has a labelled pixel.
    #[error("none of the {0} training images has a labelled pixel; add corrections or reference masks")]
    NothingLabelled(usize),
    /// An image and its label map differ in size.
    #[error("training image {index} is {pixels:?} pixels, its labels {labels:?}; they must be of one size")]
    Size {
        /// Which image.
        index: usize,
        /// Size of the image.
        pixels: (u32, u32),
        /// Size of the label map.
        labels: (u32, u32),
    },
    /// A label that is no class.
    #[error("training image {index} has label {label}; labels are 0 to {} or 255 (not labelled)", classes - 1)]
    Label {
        /// Which image.
        index: usize,
        /// The label.
        label: u8,
        /// Classes of the architecture.
        classes: usize,
    },
    /// The patch does not fit the network.
    #[error("patches of {patch} pixels do not fit the network; the side must be a multiple of {factor}")]
    PatchSize {
        /// Side of a patch.
        patch: u32,
        /// The network's total stride.
        factor: u32,
    },
    /// The network does not take RGB.
    #[error("the network takes {0} input channels; training images have 3")]
    Channels(usize),
    /// The start weights are not of the architecture.
    #[error("the start weights do not have the tensors of the architecture; load them with the plan's own")]
    Start,
    /// The loss or a weight is not finite any more.
    #[error("training diverged at step {step}: {what} is not finite; lower the learning rate")]
    Diverged {
        /// The step.
        step: u32,
        /// What is not finite.
        what: &'static str,
    },
    /// The caller stopped it.
    #[error("training was stopped after {0} steps")]
    Stopped(u32),
    /// The engine failed, for lack of memory for instance.
    #[error("the engine failed in a training step ({0}); train on smaller patches or batches, or on cpu")]
    Engine(String),
    /// The weights could not be handled.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}
