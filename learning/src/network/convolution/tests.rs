//! The layers against definitions written down pixel by pixel, over sizes, strides and channel counts.

use proptest::prelude::*;

use super::*;

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = crate::network::random::rng(&format!("numbers/{seed}"));
    (0..len).map(|_| crate::network::random::between(&mut rng, -1.0, 1.0)).collect()
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * (1.0 + a.abs().max(b.abs())))
}

/// One size of a layer.
#[derive(Clone, Copy, Debug)]
struct Case {
    n: usize,
    inputs: usize,
    outputs: usize,
    grid: Grid,
    s: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    (1usize..3, 1usize..7, 1usize..7, 1usize..7, 1usize..7, 1usize..5).prop_map(|(n, inputs, outputs, h, w, s)| Case {
        n,
        inputs,
        outputs,
        grid: Grid::new(h * s, w * s),
        s,
    })
}

/// Calls `f(output index, input index, weight index)` for every product of a 3x3 convolution.
fn conv_products(c: Case, mut f: impl FnMut(usize, usize, usize)) {
    let (fine, coarse) = (c.grid, c.grid.divided(c.s));
    for (n, o, i) in triples(c.n, c.outputs, c.inputs) {
        for (y, x, t) in triples(coarse.height, coarse.width, TAPS) {
            let (fy, fx) = (c.s * y + t / KERNEL, c.s * x + t % KERNEL);
            if (1..=fine.height).contains(&fy) && (1..=fine.width).contains(&fx) {
                let to = ((n * c.outputs + o) * coarse.height + y) * coarse.width + x;
                let from = ((n * c.inputs + i) * fine.height + fy - 1) * fine.width + fx - 1;
                f(to, from, (o * c.inputs + i) * TAPS + t);
            }
        }
    }
}

/// The same for a transposed convolution; `c.grid` is the fine side, the output.
fn transposed_products(c: Case, mut f: impl FnMut(usize, usize, usize)) {
    let (fine, coarse) = (c.grid, c.grid.divided(c.s));
    for (n, o, i) in triples(c.n, c.outputs, c.inputs) {
        for (y, x, _) in triples(fine.height, fine.width, 1) {
            let to = ((n * c.outputs + o) * fine.height + y) * fine.width + x;
            let from = ((n * c.inputs + i) * coarse.height + y / c.s) * coarse.width + x / c.s;
            f(to, from, ((i * c.outputs + o) * c.s + y % c.s) * c.s + x % c.s);
        }
    }
}

fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}

proptest! {
    #[test]
    fn convolution_and_its_gradients(c in cases()) {
        let (fine, coarse) = (c.grid, c.grid.divided(c.s));
        let x = numbers(c.n * c.inputs * fine.pixels(), 1);
        let w = numbers(c.outputs * c.inputs * TAPS, 2);
        let dy = numbers(c.n * c.outputs * coarse.pixels(), 3);
        let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
        conv_products(c, |to, from, weight| {
            y[to] += w[weight] * x[from];
            dx[from] += w[weight] * dy[to];
            dw[weight] += x[from] * dy[to];
        });
        let planes = Planes::from_compact(&x, c.n, c.inputs, fine);
        let gradient = Planes::from_compact(&dy, c.n, c.outputs, coarse);
        let out = conv(&planes, &pack_conv(&w, c.outputs, c.inputs), c.outputs, c.s, Epilogue::NONE);
        prop_assert!(close(&out.to_compact(), &y));
        let back = conv_input_gradient(&gradient, &w, c.inputs, c.s, fine);
        prop_assert!(close(&back.to_compact(), &dx));
        prop_assert!(close(&conv_weight_gradient(&planes, &gradient, c.s), &dw));
        // What kernels read later: zero borders, zero slack.
        for result in [&out, &back] {
            let inner = Planes::from_compact(&result.to_compact(), c.n, result.channels, result.grid);
            prop_assert_eq!(&inner.data[..], &result.data[..]);
        }
    }

    #[test]
    fn transposed_convolution_and_its_gradients(c in cases()) {
        let (fine, coarse) = (c.grid, c.grid.divided(c.s));
        let x = numbers(c.n * c.inputs * coarse.pixels(), 1);
        let w = numbers(c.outputs * c.inputs * c.s * c.s, 2);
        let dy = numbers(c.n * c.outputs * fine.pixels(), 3);
        let bias = numbers(c.outputs, 4);
        let mut y: Vec<f32> = (0..dy.len()).map(|i| bias[i / fine.pixels() % c.outputs]).collect();
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        transposed_products(c, |to, from, weight| {
            y[to] += w[weight] * x[from];
            dx[from] += w[weight] * dy[to];
            dw[weight] += x[from] * dy[to];
        });
        let planes = Planes::from_compact(&x, c.n, c.inputs, coarse);
        let packed = pack_transposed(&w, c.inputs, c.outputs, c.s);
        let out = transposed(&planes, &packed, c.outputs, c.s, Some(&bias));
        prop_assert!(close(&out.to_compact(), &y));
        let gradient = Planes::from_compact(&dy, c.n, c.outputs, fine);
        let (back, weights) = transposed_gradients(&planes, &gradient, &w, c.s);
        prop_assert!(close(&back.to_compact(), &dx));
        prop_assert!(close(&weights, &dw));
    }

    #[test]
    fn pointwise_convolution_and_its_gradients(c in cases()) {
        let grid = c.grid;
        let (x, w) = (numbers(c.n * c.inputs * grid.pixels(), 1), numbers(c.outputs * c.inputs, 2));
        let (dy, bias) = (numbers(c.n * c.outputs * grid.pixels(), 3), numbers(c.outputs, 4));
        let mut y: Vec<f32> = (0..dy.len()).map(|i| bias[i / grid.pixels() % c.outputs]).collect();
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        for (n, o, i) in triples(c.n, c.outputs, c.inputs) {
            for p in 0..grid.pixels() {
                let (to, from) = ((n * c.outputs + o) * grid.pixels() + p, (n * c.inputs + i) * grid.pixels() + p);
                y[to] += w[o * c.inputs + i] * x[from];
                dx[from] += w[o * c.inputs + i] * dy[to];
                dw[o * c.inputs + i] += x[from] * dy[to];
            }
        }
        let planes = Planes::from_compact(&x, c.n, c.inputs, grid);
        let out = pointwise(&planes, &pack_pointwise(&w, c.outputs, c.inputs), c.outputs, Some(&bias));
        prop_assert!(close(&out.to_compact(), &y));
        let gradient = Planes::from_compact(&dy, c.n, c.outputs, grid);
        let (back, weights) = pointwise_gradients(&planes, &gradient, &w);
        prop_assert!(close(&back.to_compact(), &dx));
        prop_assert!(close(&weights, &dw));
        let sums: Vec<f32> = (0..c.outputs)
            .map(|o| (0..dy.len()).filter(|i| i / grid.pixels() % c.outputs == o).map(|i| dy[i]).sum())
            .collect();
        prop_assert!(close(&channel_sums(&gradient), &sums));
    }
}
