use super::*;

const SIDE: usize = 8;

/// A patch of tissue colours, one white corner.
fn patch() -> Patch {
    let area = SIDE * SIDE;
    let value = |i: usize| {
        let (channel, at) = (i / area, i % area);
        if at == 0 { 1.0 } else { [0.75, 0.45, 0.65][channel] + 0.1 * ((at * 7 % 11) as f32 / 11.0) }
    };
    Patch { pixels: (0..3 * area).map(value).collect(), labels: (0..area).map(|i| (i % 3) as u8).collect() }
}

#[test]
fn the_inverse_is_the_inverse() {
    let inverse = inverse(HED);
    for (i, row) in HED.iter().enumerate() {
        for j in 0..3 {
            let product: f32 = row.iter().zip(&inverse).map(|(a, column)| a * column[j]).sum();
            assert!((product - if i == j { 1.0 } else { 0.0 }).abs() < 1e-5);
        }
    }
}

#[test]
fn no_jitter_changes_nothing() {
    let mut pixels = patch().pixels;
    restain(&mut pixels, [0.0; 3], [0.0; 3]);
    assert!(pixels.iter().zip(&patch().pixels).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn more_haematoxylin_is_darker_and_glass_stays_white() {
    let mut pixels = patch().pixels;
    restain(&mut pixels, [0.3, 0.0, 0.0], [0.2, 0.0, 0.0]);
    let area = SIDE * SIDE;
    for (at, (new, old)) in pixels.iter().zip(&patch().pixels).enumerate() {
        if at % area == 0 {
            assert!((new - 1.0).abs() < 1e-6, "glass became {new}");
        } else {
            assert!(new < old);
        }
    }
}

#[test]
fn an_empty_patch_is_not_stained() {
    let settings = Augmentation { flips: false, rotate_scale: false, colour: false, hed: 0.2 };
    let mut white = vec![0.97f32; 3 * SIDE * SIDE];
    colour(&mut white, &settings, &mut random::rng("white"));
    assert!(white.iter().all(|v| *v == 0.97));
    let mut tissue = patch().pixels;
    colour(&mut tissue, &settings, &mut random::rng("tissue"));
    assert_ne!(tissue, patch().pixels);
}

#[test]
fn gamma_keeps_mean_and_spread() {
    let mut values: Vec<f32> = (0..200).map(|i| 0.3 + 0.4 * (i as f32 / 200.0)).collect();
    let before = moments(&values);
    gamma(&mut values, 1.4);
    let after = moments(&values);
    assert!((before.0 - after.0).abs() < 1e-4 && (before.1 - after.1).abs() < 1e-4);
    let mut flat = vec![0.5f32; 9];
    gamma(&mut flat, 1.4);
    assert!(flat.iter().all(|v| *v == 0.5));
}

#[test]
fn the_eight_symmetries_are_different_and_lose_nothing() {
    let mut seen = Vec::new();
    for symmetry in 0..8 {
        let mut turned = patch();
        turned.labels = (0..(SIDE * SIDE) as u8).collect();
        flip(&mut turned, SIDE, symmetry);
        let mut labels = turned.labels.clone();
        labels.sort_unstable();
        assert_eq!(labels, (0..(SIDE * SIDE) as u8).collect::<Vec<_>>());
        assert!(!seen.contains(&turned.labels));
        seen.push(turned.labels);
    }
}

#[test]
fn image_and_labels_turn_together() {
    for symmetry in 0..8 {
        let mut turned = patch();
        let area = SIDE * SIDE;
        turned.labels = turned.pixels[area..2 * area].iter().map(|v| (v * 255.0) as u8).collect();
        flip(&mut turned, SIDE, symmetry);
        assert!((0..area).all(|i| turned.labels[i] == (turned.pixels[area + i] * 255.0) as u8));
    }
}
