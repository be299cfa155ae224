//! Spearman's rank correlation, with mean ranks for ties.

/// Ranks from 1, ties sharing their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut out = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && values[order[end]] == values[order[start]] {
            end += 1;
        }
        let mean = (start + end + 1) as f64 / 2.0;
        order[start..end].iter().for_each(|index| out[*index] = mean);
        start = end;
    }
    out
}

/// Pearson's correlation; `None` with fewer than three pairs or without variation.
fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut sxy, mut sxx, mut syy) = (0.0, 0.0, 0.0);
    for (a, b) in x.iter().zip(y) {
        sxy += (a - mx) * (b - my);
        sxx += (a - mx) * (a - mx);
        syy += (b - my) * (b - my);
    }
    (x.len() >= 3 && sxx > 0.0 && syy > 0.0).then(|| sxy / (sxx * syy).sqrt())
}

/// Spearman's rho of paired values (Spearman 1904): Pearson's correlation of the ranks.
pub(crate) fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    let x: Vec<f64> = pairs.iter().map(|p| p.0).collect();
    let y: Vec<f64> = pairs.iter().map(|p| p.1).collect();
    pearson(&ranks(&x), &ranks(&y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let rho = |x: &[f64], y: &[f64]| spearman(&x.iter().copied().zip(y.iter().copied()).collect::<Vec<_>>());
        // The IQ against hours-of-television example of the literature: rho = -29/165.
        let iq = [106.0, 100.0, 86.0, 101.0, 99.0, 103.0, 97.0, 113.0, 112.0, 110.0];
        let hours = [7.0, 27.0, 2.0, 50.0, 28.0, 29.0, 20.0, 12.0, 6.0, 17.0];
        assert!((rho(&iq, &hours).unwrap() + 29.0 / 165.0).abs() < 1e-12);
        // scipy.stats.spearmanr([1, 2, 2, 3, 5], [1, 4, 3, 3, 6]) = 0.763157894736842
        assert!(
            (rho(&[1.0, 2.0, 2.0, 3.0, 5.0], &[1.0, 4.0, 3.0, 3.0, 6.0]).unwrap() - 0.763157894736842).abs() < 1e-12
        );
        assert_eq!(rho(&[1.0, 2.0, 3.0], &[5.0, 4.0, 0.0]), Some(-1.0));
    }

    #[test]
    fn no_figure_where_there_is_none() {
        assert_eq!(spearman(&[(1.0, 2.0), (2.0, 3.0)]), None);
        assert_eq!(spearman(&[(1.0, 2.0), (2.0, 2.0), (3.0, 2.0)]), None);
    }
}
