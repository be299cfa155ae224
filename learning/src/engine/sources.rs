//! Where an ensemble's different answers come from beside its members: mirrored tiles, and channels that are left out by
//! chance. Both turn into more members, so that every engine knows them.

use std::borrow::Cow;

use consilium_common::plan::{Architecture, Dropout};
use image::{RgbImage, imageops};

use super::{EngineError, TilePredictor};
use crate::network::graph::{ConvLayer, Graph, Stage};
use crate::network::{EnsembleForm, InputScale, MemberWeights, Shown, random};

/// Mirrorings of a tile: none, left-right, top-down, both.
const MIRRORINGS: usize = 4;

/// Every member in `dropout.passes` versions, next to each other; each lacks other channels, chosen from its member's
/// number and the pass alone, so a whole slide is seen by the same networks.
///
/// Monte Carlo dropout (Gal and Ghahramani 2016) on whole channels (Tompson et al. 2015), after every normalisation that
/// a LeakyReLU follows, whose statistics are the running ones. A channel that stays counts 1 / (1 - rate). LeakyReLU
/// passes factors that are not negative through, so this is the same as other scales and shifts of the normalisation.
pub(super) fn with_dropout<'a>(
    arch: &Architecture,
    members: &'a [MemberWeights],
    dropout: Option<&Dropout>,
) -> Cow<'a, [MemberWeights]> {
    let Some(dropout) = dropout else { return Cow::Borrowed(members) };
    let versions =
        |(number, member)| (0..dropout.passes).map(move |pass| dropped(arch, member, dropout.rate, number, pass));
    Cow::Owned(members.iter().enumerate().flat_map(versions).collect())
}

fn dropped(arch: &Architecture, member: &MemberWeights, rate: f64, number: usize, pass: u32) -> MemberWeights {
    let (graph, shapes) = (Graph::new(arch), arch.tensors());
    let mut rng = random::rng(&format!("dropout/member-{number}/pass-{pass}"));
    let mut tensors: std::collections::BTreeMap<_, _> =
        member.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    for layer in layers(&graph) {
        let kept = (1.0 / (1.0 - rate)) as f32;
        let factors: Vec<f32> =
            (0..layer.outputs).map(|_| if random::chance(&mut rng, rate as f32) { 0.0 } else { kept }).collect();
        for index in [layer.gamma, layer.beta] {
            if let Some(tensor) = tensors.get_mut(&shapes[index].name) {
                tensor.values.iter_mut().zip(&factors).for_each(|(value, factor)| *value *= factor);
            }
        }
    }
    MemberWeights::from_tensors(tensors)
}

/// Layers that end in a LeakyReLU of their own.
fn layers(graph: &Graph) -> impl Iterator<Item = &ConvLayer> {
    let encoder = graph.encoder.iter().flat_map(|stage| match stage {
        Stage::Convs(layers) => layers.iter().collect::<Vec<_>>(),
        Stage::Blocks(blocks) => blocks.iter().map(|block| &block.first).collect(),
    });
    graph.stem.iter().chain(encoder).chain(graph.decoder.iter().flat_map(|level| &level.convs))
}

/// All members over a tile, then over it mirrored left-right, top-down and both ways: 4 times as many, as nnU-Net's
/// test-time augmentation has it.
pub(super) struct Mirrored(pub(super) Box<dyn TilePredictor>);

impl TilePredictor for Mirrored {
    fn form(&self) -> EnsembleForm {
        let form = self.0.form();
        EnsembleForm { members: form.members * MIRRORINGS, ..form }
    }

    fn at_once(&self) -> usize {
        self.0.at_once()
    }

    fn predict(
        &self,
        member: usize,
        tiles: &[RgbImage],
        input: &InputScale,
        out: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let (mirroring, member) = (member / self.0.members().max(1), member % self.0.members().max(1));
        let (across, down) = (mirroring % 2 == 1, mirroring / 2 == 1);
        if !across && !down {
            return self.0.predict(member, tiles, input, out);
        }
        let (width, height) = tiles.first().map_or((0, 0), RgbImage::dimensions);
        let turned: Vec<RgbImage> = tiles.iter().map(|tile| mirrored(tile, across, down)).collect();
        let shown = input.shown.map(|shown| Shown {
            x: if across { width.saturating_sub(shown.x + shown.width) } else { shown.x },
            y: if down { height.saturating_sub(shown.y + shown.height) } else { shown.y },
            ..shown
        });
        self.0.predict(member, &turned, &InputScale { shown, ..*input }, out)?;
        let (width, height) = (width as usize, height as usize);
        for plane in out.chunks_exact_mut((width * height).max(1)) {
            if across {
                plane.chunks_exact_mut(width).for_each(<[f32]>::reverse);
            }
            if down {
                for y in 0..height / 2 {
                    let (above, below) = plane.split_at_mut((height - 1 - y) * width);
                    above[y * width..][..width].swap_with_slice(&mut below[..width]);
                }
            }
        }
        Ok(())
    }
}

fn mirrored(tile: &RgbImage, across: bool, down: bool) -> RgbImage {
    match (across, down) {
        (true, true) => imageops::rotate180(tile),
        (true, false) => imageops::flip_horizontal(tile),
        (false, _) => imageops::flip_vertical(tile),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Predictor;
    use crate::testing::predicted;
    use image::Rgb;

    fn tile(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x * 9 + y, x * y, y * 31 + x / 3].map(|v| (v % 256) as u8)))
    }

    #[test]
    fn a_mirrored_member_sees_the_mirrored_tile() {
        let arch = Architecture::plain(2, 4, 3);
        let members = [MemberWeights::initialise(&arch, 1), MemberWeights::initialise(&arch, 2)];
        let plain = Predictor::of_members(&arch, &members);
        let four = Mirrored(Box::new(Predictor::of_members(&arch, &members)));
        assert_eq!(four.members(), 8);
        let tiles = [tile(24, 16), tile(24, 16)];
        let turn = |tile: &RgbImage, mirroring: usize| match mirroring {
            0 => tile.clone(),
            1 => imageops::flip_horizontal(tile),
            2 => imageops::flip_vertical(tile),
            _ => imageops::rotate180(tile),
        };
        for mirroring in 0..4 {
            for member in 0..2 {
                let turned: Vec<RgbImage> = tiles.iter().map(|tile| turn(tile, mirroring)).collect();
                let theirs = predicted(&plain, member, &turned);
                let ours = predicted(&four, 2 * mirroring + member, &tiles);
                for (y, x) in (0..16).flat_map(|y| (0..24).map(move |x| (y, x))) {
                    let (tx, ty) =
                        (if mirroring % 2 == 1 { 23 - x } else { x }, if mirroring > 1 { 15 - y } else { y });
                    for plane in 0..4 {
                        assert_eq!(ours[plane * 384 + y * 24 + x], theirs[plane * 384 + ty * 24 + tx], "{mirroring}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_shown_is_mirrored_too() {
        let arch = Architecture::plain(2, 4, 3);
        let members = [MemberWeights::initialise(&arch, 1)];
        let four = Mirrored(Box::new(Predictor::of_members(&arch, &members)));
        let shown = |x, y| InputScale { shown: Some(Shown { x, y, width: 8, height: 12 }), ..InputScale::RGB_TO_01 };
        let (tile, mut ours, mut theirs) = (tile(16, 16), Vec::new(), Vec::new());
        four.predict(3, std::slice::from_ref(&tile), &shown(0, 4), &mut ours).unwrap();
        four.predict(0, &[imageops::rotate180(&tile)], &shown(8, 0), &mut theirs).unwrap();
        theirs.chunks_exact_mut(256).for_each(<[f32]>::reverse);
        assert_eq!(ours, theirs);
    }

    #[test]
    fn dropout_leaves_channels_out_and_keeps_the_mean() {
        let arch = Architecture::plain(2, 8, 3);
        let members = [MemberWeights::initialise(&arch, 1), MemberWeights::initialise(&arch, 2)];
        assert!(matches!(with_dropout(&arch, &members, None), Cow::Borrowed(_)));
        let dropout = Dropout { passes: 200, rate: 0.25 };
        let all = with_dropout(&arch, &members, Some(&dropout));
        assert_eq!(all.len(), 400);
        assert_ne!(all[0], all[1]);
        assert_eq!(*with_dropout(&arch, &members[..1], Some(&dropout)), all[..200]);
        let name = "decoder.stages.0.convs.1.norm.weight";
        let values = all[..200].iter().flat_map(|m| m.get(name).unwrap().values.clone());
        let (sum, zeros, n) =
            values.fold((0.0, 0.0, 0.0), |(s, z, n), v| (s + f64::from(v), z + f64::from(u8::from(v == 0.0)), n + 1.0));
        assert!((zeros / n - 0.25).abs() < 0.03 && (sum / n - 1.0).abs() < 0.04, "{zeros} of {n}, mean {}", sum / n);
        let head = "decoder.seg_layers.1.weight";
        assert_eq!(all[3].get(head), members[0].get(head));
        // A channel that is left out is zero behind its LeakyReLU, so what it would have brought does not matter.
        let mut other =
            all[0].iter().map(|(name, t)| (name.to_owned(), t.clone())).collect::<std::collections::BTreeMap<_, _>>();
        let dead = all[0].get("encoder.stages.0.0.convs.0.norm.weight").unwrap().values.iter().position(|&v| v == 0.0);
        let weight = other.get_mut("encoder.stages.0.0.convs.0.conv.weight").unwrap();
        if let Some(dead) = dead {
            weight.values[dead * 27..][..27].fill(9.0);
        }
        let both = Predictor::of_members(&arch, &[all[0].clone(), MemberWeights::from_tensors(other)]);
        let tiles = [tile(16, 16)];
        assert!(dead.is_some() && predicted(&both, 0, &tiles) == predicted(&both, 1, &tiles));
    }
}
