//! The kernels with every kind of vector, against sums in double precision.

use super::*;
use crate::network::random;

fn numbers(count: usize, seed: &str) -> Vec<f32> {
    let mut rng = random::rng(seed);
    (0..count).map(|_| random::unit(&mut rng) - 0.5).collect()
}

/// Runs an operation with every kind of vector that this processor has.
fn with_all_vectors<Op: WithSimd>(op: impl Fn() -> Op) -> Vec<Op::Output> {
    let mut outputs = vec![Simd::vectorize(pulp::Scalar256b, op())];
    #[cfg(target_arch = "x86_64")]
    {
        outputs.extend(pulp::x86::V3::try_new().map(|simd| Simd::vectorize(simd, op())));
        outputs.extend(pulp::x86::V4::try_new().map(|simd| Simd::vectorize(simd, op())));
    }
    outputs
}

struct Forward<'a>(&'a Correlation<'a>, usize);

impl WithSimd for Forward<'_> {
    type Output = Vec<f32>;

    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut output = vec![0.0; self.1];
        Blocks { job: self.0, output: &mut output }.with_simd(simd);
        output
    }
}

struct Backward<'a>(&'a WeightGradient<'a>, usize);

impl WithSimd for Backward<'_> {
    type Output = Vec<f32>;

    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut sums = vec![0.0; self.1];
        Tiles { job: self.0, sums: &mut sums }.with_simd(simd);
        sums
    }
}

#[test]
fn all_vectors_give_the_same_bits() {
    for (len, taps) in [(1, vec![5]), (40, vec![3, 4, 5, 60, 61, 62]), (97, vec![0, 7]), (1500, vec![0, 1, 2])] {
        let (inputs, outputs) = (3, 6);
        let plane = len + 200;
        let (input, weights) = (numbers(inputs * plane, "input"), numbers(outputs * inputs * taps.len(), "weights"));
        let packed = Packed::new(outputs, inputs, taps.len(), |o, i, t| weights[(o * inputs + i) * taps.len() + t]);
        let bias = numbers(outputs, "bias");
        let forward = Correlation {
            input: &input,
            input_stride: plane,
            taps: &taps,
            packed: &packed,
            bias: Some(&bias),
            slope: 0.01,
            len,
            output_stride: len,
            output_offset: 0,
        };
        let all = with_all_vectors(|| Forward(&forward, outputs * len));
        let exact: f64 = (0..inputs)
            .flat_map(|c| taps.iter().enumerate().map(move |(t, tap)| (c, t, tap)))
            .map(|(c, t, tap)| f64::from(input[c * plane + tap + len - 1]) * f64::from(weights[c * taps.len() + t]))
            .sum::<f64>()
            + f64::from(bias[0]);
        let exact = if exact < 0.0 { 0.01 * exact } else { exact };
        assert!((f64::from(all[0][len - 1]) - exact).abs() < 1e-5);
        assert!(all.iter().all(|output| *output == all[0]), "{len} {taps:?}");

        let gradient = numbers(outputs * len, "gradient");
        let backward = WeightGradient {
            input: &input,
            input_stride: plane,
            inputs,
            taps: &taps,
            gradient: &gradient,
            gradient_stride: len,
            outputs,
            len,
        };
        let all = with_all_vectors(|| Backward(&backward, weights.len()));
        let exact: f64 = (0..len).map(|i| f64::from(gradient[i]) * f64::from(input[taps[0] + i])).sum();
        assert!((f64::from(all[0][0]) - exact).abs() < 1e-4);
        assert!(all.iter().all(|sums| *sums == all[0]), "{len} {taps:?}");
    }
}
