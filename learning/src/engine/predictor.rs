//! The seam between a scan and whatever computes its networks.

use image::RgbImage;
use rayon::prelude::*;

use super::EngineError;
use crate::network::{EnsembleForm, InputScale, Predictor};

/// Whatever turns tiles into probabilities, member by member.
pub trait TilePredictor: Send + Sync {
    /// What is computed.
    fn form(&self) -> EnsembleForm;

    /// Replaces `out` by what one member says of tiles of one size, probabilities or logits, whichever are averaged:
    /// `[tiles, classes, height, width]`. `input` is the normalisation of the slide.
    ///
    /// # Errors
    /// The engine failed, for lack of memory for instance.
    fn predict(
        &self,
        member: usize,
        tiles: &[RgbImage],
        input: &InputScale,
        out: &mut Vec<f32>,
    ) -> Result<(), EngineError>;

    /// Members that are best computed side by side; the caller brings so many threads. The others are computed after them.
    fn at_once(&self) -> usize {
        self.members()
    }

    /// Networks in the ensemble.
    fn members(&self) -> usize {
        self.form().members
    }

    /// Classes, background included.
    fn classes(&self) -> usize {
        self.form().classes
    }
}

/// Predicts with all members as the engine likes it best: `outputs` has a place for each.
///
/// # Errors
/// As [`TilePredictor::predict`].
pub fn predict_all(
    predictor: &dyn TilePredictor,
    tiles: &[RgbImage],
    input: &InputScale,
    outputs: &mut [Vec<f32>],
) -> Result<(), EngineError> {
    let at_once = predictor.at_once().max(1);
    for (turn, outputs) in outputs.chunks_mut(at_once).enumerate() {
        let first = turn * at_once;
        match outputs {
            // Not through the pool: what happens inside one member is the engine's own affair.
            [out] => predictor.predict(first, tiles, input, out)?,
            _ => outputs
                .par_iter_mut()
                .enumerate()
                .try_for_each(|(member, out)| predictor.predict(first + member, tiles, input, out))?,
        }
    }
    Ok(())
}

impl TilePredictor for Predictor {
    fn form(&self) -> EnsembleForm {
        Predictor::form(self)
    }

    fn predict(
        &self,
        member: usize,
        tiles: &[RgbImage],
        input: &InputScale,
        out: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        Predictor::predict(self, member, tiles, input, out);
        Ok(())
    }
}
