//! Candidates of a slide of any size: its maps are read window by window, each as high as a row of boxes with what their
//! figures look at around them, so that memory does not grow with the slide and a box has the figures that it has when
//! the whole slide is described at once.

use rayon::prelude::*;

use super::PatchBox;
use super::describe::{Candidate, Field, Layout, describe_boxes};
use crate::scan::{Maps, ScanError};
use crate::uncertainty::UncertaintyMap;

/// Most pixels from the first to the last corner of a window's boxes.
const SPAN: u32 = 1024;
/// Rows of boxes that are described before `each` hears of them.
const ROWS: usize = 16;

/// Every box of the slide's grid with enough tissue that overlaps none of `exclude`, from top to bottom and left to
/// right, in portions.
///
/// # Errors
/// The maps cannot be read, or the map is one that a scan does not keep.
pub(super) fn describe_maps(
    maps: &dyn Maps,
    slide: &str,
    map: UncertaintyMap,
    layout: &Layout,
    exclude: &[PatchBox],
    each: &mut dyn FnMut(Vec<Candidate>),
) -> Result<(), ScanError> {
    let (columns, rows) = (layout.starts(maps.width()), layout.starts(maps.height()));
    let blocks: Vec<&[u32]> = columns.chunks((SPAN / layout.stride.max(1)).max(1) as usize).collect();
    for rows in rows.chunks(ROWS) {
        let windows: Vec<(u32, &[u32])> =
            rows.iter().flat_map(|&y| blocks.iter().map(move |&block| (y, block))).collect();
        let free = |patch: &PatchBox| !exclude.iter().any(|other| other.overlaps(patch));
        let described = |&(y, block): &(u32, &[u32])| {
            let boxes = block.iter().map(|&x| PatchBox { x, y, side: layout.side }).filter(free).collect();
            window(maps, slide, map, layout, boxes)
        };
        let found: Vec<Vec<Candidate>> = windows.par_iter().map(described).collect::<Result<_, _>>()?;
        each(found.into_iter().flatten().collect());
    }
    Ok(())
}

/// The candidates among boxes that lie beside each other.
fn window(
    maps: &dyn Maps,
    slide: &str,
    map: UncertaintyMap,
    layout: &Layout,
    mut boxes: Vec<PatchBox>,
) -> Result<Vec<Candidate>, ScanError> {
    let (Some(&first), Some(&last)) = (boxes.first(), boxes.last()) else { return Ok(Vec::new()) };
    // A boundary is between a pixel and its neighbour, and may be a radius away.
    let around = layout.radius().saturating_add(1);
    let (left, top) = (first.x.saturating_sub(around), first.y.saturating_sub(around));
    let end = |start: u32| start.saturating_add(layout.side).saturating_add(around);
    let strip = maps.read(left..end(last.x), top..end(last.y))?;
    if strip.tissue.iter().all(|&tissue| tissue == 0) {
        return Ok(Vec::new());
    }
    boxes.iter_mut().for_each(|patch| (patch.x, patch.y) = (patch.x - left, patch.y - top));
    let (excluded, mean) = (vec![0; strip.tissue.len()], strip.mean());
    let values = strip.map(map).ok_or(ScanError::NoMap(map))?;
    let field = Field::of_strip(&strip, slide, &values, &mean, &excluded);
    let mut found = describe_boxes(&field, layout, boxes);
    for candidate in &mut found {
        (candidate.patch.x, candidate.patch.y) = (candidate.patch.x + left, candidate.patch.y + top);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::describe::{Aggregation, describe};
    use super::*;
    use crate::scan::Strip;

    fn slide(width: u32, height: u32, salt: u32) -> Strip {
        let mut strip = Strip::background(0, height, width, 3);
        let hash = |i: u32| (i ^ salt).wrapping_mul(2_654_435_761) >> 8;
        for i in 0..strip.labels.len() {
            let (x, y) = (i as u32 % width, i as u32 / width);
            strip.tissue[i] = u8::from(hash(x / 40 + 1000 * (y / 40)) % 4 > 0);
            strip.labels[i] = (hash(x / 9 + 1000 * (y / 7)) % 3) as u8;
            strip.probabilities[0][i] = (hash(i as u32) % 50) as f32 / 100.0;
            strip.probabilities[1][i] = (hash(i as u32 + 7) % 50) as f32 / 100.0;
            strip.entropy[i] = (hash(i as u32 + 9) % 100) as f32 / 100.0;
            strip.uncertainty[i] = strip.entropy[i] + (hash(i as u32 + 11) % 100) as f32 / 300.0;
        }
        strip
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn windows_give_the_boxes_of_the_whole_slide(
            width in 20u32..150, height in 20u32..90, side in 16u32..40, salt in any::<u32>(), which in 0usize..5,
            map in 0usize..5,
        ) {
            let aggregation = [
                Aggregation::Tissue, Aggregation::Foreground, Aggregation::Border { radius: 3 },
                Aggregation::TopShare { share: 0.1 }, Aggregation::Whole,
            ][which];
            let map = [
                UncertaintyMap::Uga, UncertaintyMap::Entropy, UncertaintyMap::Kl, UncertaintyMap::Margin,
                UncertaintyMap::LeastConfidence,
            ][map];
            let strip = slide(width, height, salt);
            let layout = Layout { side, stride: side / 2, min_tissue: 0.3, aggregation };
            let exclude = [PatchBox { x: salt % width, y: (salt >> 9) % height, side: 20 }];
            let (values, mean, excluded) = (strip.map(map).unwrap(), strip.mean(), vec![0; strip.labels.len()]);
            let mut whole = describe(&Field::of_strip(&strip, "s", &values, &mean, &excluded), &layout);
            whole.retain(|candidate| !exclude[0].overlaps(&candidate.patch));
            let mut parts = Vec::new();
            describe_maps(&strip, "s", map, &layout, &exclude, &mut |found| parts.extend(found)).unwrap();
            prop_assert_eq!(parts, whole);
        }
    }

    #[test]
    fn wide_slides_are_read_in_blocks() {
        let strip = slide(2500, 60, 3);
        let layout = Layout { side: 48, stride: 24, min_tissue: 0.3, aggregation: Aggregation::Tissue };
        let (mut parts, map) = (Vec::new(), UncertaintyMap::Entropy);
        describe_maps(&strip, "s", map, &layout, &[], &mut |found| parts.extend(found)).unwrap();
        let (mean, excluded) = (strip.mean(), vec![0; strip.labels.len()]);
        assert_eq!(parts, describe(&Field::of_strip(&strip, "s", &strip.entropy, &mean, &excluded), &layout));
        assert!(parts.len() > 150, "{}", parts.len());
        let unknown = describe_maps(&strip, "s", UncertaintyMap::Variance, &layout, &[], &mut |_| ());
        assert!(unknown.unwrap_err().to_string().contains("Variance"));
    }
}
