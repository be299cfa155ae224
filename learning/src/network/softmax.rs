//! From logits to probabilities.

/// Softmax over the classes of one image `[classes, pixels]` in place; returns log(sum(exp(logits))) of every pixel.
pub(crate) fn softmax(image: &mut [f32], classes: usize, pixels: usize) -> Vec<f32> {
    let mut log_sum = image[..pixels].to_vec();
    for plane in image.chunks_exact(pixels).skip(1) {
        log_sum.iter_mut().zip(plane).for_each(|(m, &v)| *m = m.max(v));
    }
    let mut total = vec![0.0f32; pixels];
    for plane in image.chunks_exact_mut(pixels).take(classes) {
        for ((value, &max), total) in plane.iter_mut().zip(&log_sum).zip(&mut total) {
            *value = (*value - max).exp();
            *total += *value;
        }
    }
    for plane in image.chunks_exact_mut(pixels).take(classes) {
        plane.iter_mut().zip(&total).for_each(|(value, &total)| *value /= total);
    }
    log_sum.iter_mut().zip(&total).for_each(|(log_sum, &total)| *log_sum += total.ln());
    log_sum
}
