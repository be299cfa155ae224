//! What the first ensemble knows of its errors at the sites other than the central one: calibration, how well each map ranks
//! errors, and uncertainty against Dice by box.

use std::collections::{BTreeMap, BTreeSet};

use consilium_learning::metrics::BINS;

use super::cell::Cell;
use super::statistics::{Values, bootstrap, mean};
use super::summary::{BoxSummary, MapSummary};
use crate::report::stats::spearman;

/// Parts of equal size into which boxes are divided; fewer where there are fewer boxes.
const TENTHS: usize = 10;

/// Pools the bins of the first ensemble's diagrams by their confidence.
pub(super) fn reliability(cells: &[Cell]) -> Vec<(f64, f64)> {
    let first = cells.iter().filter(|cell| cell.budget == 0).flat_map(|cell| &cell.sites).filter(|site| !site.central);
    let mut pooled: BTreeMap<u32, (f64, f64, f64)> = BTreeMap::new();
    for &(pixels, confidence, accuracy) in first.flat_map(|site| &site.fields).flat_map(|field| &field.reliability) {
        let bin = pooled.entry((confidence * BINS as f64).ceil() as u32).or_default();
        let n = pixels as f64;
        *bin = (bin.0 + n, bin.1 + n * confidence, bin.2 + n * accuracy);
    }
    pooled.into_values().map(|(n, confidence, accuracy)| (confidence / n, accuracy / n)).collect()
}

/// Mean uncertainty and Dice of the first ensemble's boxes at the other sites, each with its seed.
pub(super) fn boxes(cells: &[Cell]) -> Vec<(u64, (f64, f64))> {
    let first = cells.iter().filter(|cell| cell.budget == 0);
    let of_cell = |cell: &Cell| {
        let fields = cell.sites.iter().filter(|site| !site.central).flat_map(|site| &site.fields);
        fields.flat_map(|field| &field.boxes).map(|pair| (cell.seed, *pair)).collect::<Vec<_>>()
    };
    first.flat_map(of_cell).collect()
}

/// The boxes in tenths, and how well uncertainty ranks them.
pub(super) fn box_summary(boxes: Vec<(u64, (f64, f64))>) -> Option<BoxSummary> {
    let seeds: BTreeSet<u64> = boxes.iter().map(|(seed, _)| *seed).collect();
    let of_seed =
        |seed: u64| -> Vec<(f64, f64)> { boxes.iter().filter(|(of, _)| *of == seed).map(|(_, pair)| *pair).collect() };
    let spearman_by_seed = seeds.into_iter().filter_map(|seed| spearman(&of_seed(seed))).collect();
    let mut pairs: Vec<(f64, f64)> = boxes.into_iter().map(|(_, pair)| pair).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let parts = TENTHS.min(pairs.len());
    let part = |place: usize| &pairs[place * pairs.len() / parts..(place + 1) * pairs.len() / parts];
    let middle = |of: &[(f64, f64)]| Some((mean(of.iter().map(|pair| pair.0))?, mean(of.iter().map(|pair| pair.1))?));
    let tenths: Vec<(f64, f64)> = (0..parts).filter_map(|place| middle(part(place))).collect();
    let summary = BoxSummary { boxes: pairs.len(), spearman: spearman(&pairs), spearman_by_seed, tenths };
    (!pairs.is_empty()).then_some(summary)
}

/// Every uncertainty that the first ensemble's cells tell of.
pub(super) fn maps(cells: &[Cell]) -> Vec<MapSummary> {
    let mut found: BTreeMap<String, (Values, Values)> = BTreeMap::new();
    for cell in cells.iter().filter(|cell| cell.budget == 0) {
        for site in cell.sites.iter().filter(|site| !site.central) {
            for (field, figures) in site.fields.iter().flat_map(|field| field.maps.iter().map(move |map| (field, map)))
            {
                let name = serde_json::to_value(figures.map).ok().and_then(|v| v.as_str().map(str::to_owned));
                let (auroc, aurc) = found.entry(name.unwrap_or_default()).or_default();
                let key = (site.site.clone(), field.field.clone());
                for (values, value) in [(auroc, figures.error_auroc), (aurc, figures.aurc)] {
                    if let Some(value) = value {
                        values.entry(key.clone()).or_default().insert(cell.seed, value);
                    }
                }
            }
        }
    }
    let summary = |(map, (auroc, aurc)): (String, (Values, Values))| {
        let (auroc, aurc) = (bootstrap(&auroc, &format!("{map}/auroc")), bootstrap(&aurc, &format!("{map}/aurc")));
        MapSummary { map, error_auroc: auroc, aurc }
    };
    found.into_iter().map(summary).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_told_in_tenths_of_all_and_ranked_by_seed() {
        let pair = |place: usize| (0.01 * place as f64, 1.0 - 0.02 * place as f64);
        let even = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18].map(|place| (1, pair(place)));
        let odd = [19, 17, 15, 13, 11, 9, 7, 5, 3, 1].map(|place| (2, pair(place)));
        let found = box_summary(even.into_iter().chain(odd).collect()).unwrap();
        assert_eq!((found.boxes, found.spearman, &found.spearman_by_seed[..]), (20, Some(-1.0), &[-1.0, -1.0][..]));
        assert_eq!(found.tenths.len(), 10);
        let (first, last) = (found.tenths[0], found.tenths[9]);
        assert!((first.0 - 0.005).abs() < 1e-12 && (first.1 - 0.99).abs() < 1e-12, "{first:?}");
        assert!((last.0 - 0.185).abs() < 1e-12 && (last.1 - 0.63).abs() < 1e-12, "{last:?}");
        assert_eq!(box_summary(vec![(1, (0.5, 0.25))]).unwrap().tenths, [(0.5, 0.25)]);
        assert_eq!(box_summary(Vec::new()), None);
    }
}
