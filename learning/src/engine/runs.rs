//! How tiles are brought to a library, run by run: what the engines `onnx` and `libtorch` share.

use image::RgbImage;

use crate::network::{EnsembleForm, InputScale};

/// Most pixels of a run on a card, whose memory bounds them. Not measured on a card yet.
const CARD_RUN_PX: usize = 16 * 512 * 512;

/// One run: some tiles as network input.
pub(super) struct Run<'a> {
    /// `[tiles, 3, height, width]` with sides that are multiples of the network's stride.
    pub(super) planes: &'a [f32],
    /// Of the planes.
    pub(super) shape: [usize; 4],
    /// Width and height of a tile itself, at the planes' top left.
    pub(super) part: (usize, usize),
}

/// Replaces `out` by what `compute` writes for all tiles, which are of one size: `[tiles, classes, height, width]`. On the
/// processor each tile is a run of its own: larger batches are no faster there, need more memory, and a tile's result
/// would not be free of its neighbours. `planes` is memory that is used again.
pub(super) fn in_runs<E>(
    form: &EnsembleForm,
    on_card: bool,
    tiles: &[RgbImage],
    input: &InputScale,
    planes: &mut Vec<f32>,
    out: &mut Vec<f32>,
    mut compute: impl FnMut(&Run<'_>, &mut [f32]) -> Result<(), E>,
) -> Result<(), E> {
    let (width, height) = tiles.first().map_or((0, 0), RgbImage::dimensions);
    let padded = [height, width].map(|side| side.next_multiple_of(form.total_stride) as usize);
    let (part, area) = ((width as usize, height as usize), padded[0] * padded[1]);
    let pixels = (part.0 * part.1).max(1);
    let beyond = input.beyond(form.conventions.padding);
    let each = if on_card { (CARD_RUN_PX / pixels).max(1) } else { 1 };
    out.resize(tiles.len() * form.classes * pixels, 0.0);
    for (tiles, out) in tiles.chunks(each).zip(out.chunks_mut(each * form.classes * pixels)) {
        planes.resize(tiles.len() * 3 * area, 0.0);
        for (tile, planes) in tiles.iter().zip(planes.chunks_exact_mut((3 * area).max(1))) {
            input.fill(tile, (padded[1], padded[0]), beyond, planes);
        }
        compute(&Run { planes, shape: [tiles.len(), 3, padded[0], padded[1]], part }, out)?;
    }
    Ok(())
}

/// Threads of each member on the processor, all running side by side. With ONNX Runtime on two busy cores (five members,
/// base 16, 256 px) one thread for each was 1.24, 0.98 and 1.10 times as fast in three rounds as two threads for one after
/// the other: a weak preference.
pub(super) fn threads_beside(members: usize) -> usize {
    let cores = super::available_threads();
    cores.div_ceil(members.clamp(1, cores))
}
