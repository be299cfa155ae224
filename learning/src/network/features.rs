//! The deepest features of an image.

/// One number a feature for every block of `stride` x `stride` pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    pub(super) stride: u32,
    /// Blocks.
    pub(super) width: usize,
    /// Blocks.
    pub(super) height: usize,
    /// `[features, height, width]`.
    pub(super) planes: Vec<f32>,
}

impl Features {
    /// Each feature averaged over the blocks whose middle lies in a square of pixels; over the nearest block where there
    /// is none.
    pub fn mean(&self, x: u32, y: u32, side: u32) -> Vec<f32> {
        let blocks = |at: u32, length: usize| {
            let middle = |block: usize| block as u32 * self.stride + self.stride / 2;
            let inside: Vec<usize> = (0..length).filter(|&block| (at..at + side).contains(&middle(block))).collect();
            let nearest = ((at + side / 2) / self.stride.max(1)) as usize;
            if inside.is_empty() { vec![nearest.min(length.saturating_sub(1))] } else { inside }
        };
        let (columns, rows) = (blocks(x, self.width), blocks(y, self.height));
        let area = (self.width * self.height).max(1);
        let mean = |plane: &[f32]| {
            let sum: f64 =
                rows.iter().flat_map(|&row| columns.iter().map(move |&c| f64::from(plane[row * self.width + c]))).sum();
            (sum / (rows.len() * columns.len()) as f64) as f32
        };
        self.planes.chunks_exact(area).map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_over_the_blocks_inside() {
        // Two features of 3 x 2 blocks of 8 pixels.
        let planes = vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 10.0, 10.0, 10.0, 10.0, 16.0];
        let features = Features { stride: 8, width: 3, height: 2, planes };
        assert_eq!(features.mean(0, 0, 16), [2.0, 10.0]);
        assert_eq!(features.mean(8, 0, 16), [3.0, 11.5]);
        assert_eq!(features.mean(16, 8, 8), [5.0, 16.0]);
        // Smaller than a block and beside its middle: the block that it lies in.
        assert_eq!(features.mean(9, 9, 2), [4.0, 10.0]);
        assert_eq!(features.mean(22, 14, 2), [5.0, 16.0]);
    }
}
