//! How well a score ranks errors first: area under the receiver operating characteristic, and under the risk-coverage
//! curve. Ties share.

/// The probability that an error has a higher score than a pixel that is right, ties counted half (the Mann-Whitney
/// statistic; Fawcett 2006); `None` without errors or without right pixels.
pub fn error_auroc(scored: &mut [(f32, bool)]) -> Option<f64> {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins) = (0.0, 0.0);
    for ties in scored.chunk_by(|a, b| a.0 == b.0) {
        let errors = ties.iter().filter(|(_, error)| *error).count() as f64;
        let right = ties.len() as f64 - errors;
        wins += errors * (below + right / 2.0);
        below += right;
    }
    let errors = scored.len() as f64 - below;
    (errors > 0.0 && below > 0.0).then(|| wins / (errors * below))
}

/// Area under the risk-coverage curve (Geifman et al. 2019): the mean over k of the error rate of the k pixels with the
/// lowest scores; of ties every order counts alike. `None` without pixels. Lower is better.
pub fn aurc(scored: &mut [(f32, bool)]) -> Option<f64> {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut taken, mut errors, mut area) = (0.0, 0.0, 0.0);
    for ties in scored.chunk_by(|a, b| a.0 == b.0) {
        let here = ties.iter().filter(|(_, error)| *error).count() as f64;
        let share = here / ties.len() as f64;
        for step in 1..=ties.len() {
            area += (errors + share * step as f64) / (taken + step as f64);
        }
        taken += ties.len() as f64;
        errors += here;
    }
    (taken > 0.0).then(|| area / taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(scores: &[f32], errors: &[u8]) -> Vec<(f32, bool)> {
        scores.iter().copied().zip(errors.iter().map(|&e| e == 1)).collect()
    }

    #[test]
    fn known_values() {
        // sklearn.metrics.roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) = 0.75
        assert_eq!(error_auroc(&mut pairs(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1])), Some(0.75));
        // roc_auc_score([1, 0, 1, 0, 0], [0.5, 0.5, 0.9, 0.1, 0.5]) = 5/6
        let tied = error_auroc(&mut pairs(&[0.5, 0.5, 0.9, 0.1, 0.5], &[1, 0, 1, 0, 0])).unwrap();
        assert!((tied - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!(error_auroc(&mut pairs(&[0.5, 0.5], &[0, 0])), None);
        assert_eq!(error_auroc(&mut []), None);
    }

    #[test]
    fn risk_falls_with_coverage() {
        // Sorted: right, right, wrong: risks 0, 0, 1/3.
        let good = aurc(&mut pairs(&[0.9, 0.1, 0.2], &[1, 0, 0])).unwrap();
        assert!((good - 1.0 / 9.0).abs() < 1e-12);
        // Wrong first: 1, 1/2, 1/3.
        let bad = aurc(&mut pairs(&[0.1, 0.2, 0.3], &[1, 0, 0])).unwrap();
        assert!((bad - 11.0 / 18.0).abs() < 1e-12);
        // Without any order the risk is the error rate at every coverage.
        assert_eq!(aurc(&mut pairs(&[0.5; 4], &[1, 0, 0, 0])), Some(0.25));
        assert_eq!(aurc(&mut []), None);
    }
}
