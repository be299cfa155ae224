//! Calls into libtorch: where it computes, and the few operations that our networks are made of.
//!
//! Images and kernels are kept "channels last" (a pixel's channels side by side), which its convolutions like best.

use tch::{Cuda, Kind, Tensor};

use crate::engine::Precision;

/// The version that the program was built with, which is the one that it runs with.
pub(crate) const VERSION: &str = "2.13.0";

/// What libtorch says of a call.
pub(crate) type Torch<T> = Result<T, tch::TchError>;

/// The first line of what libtorch says; the rest are places in its own code.
pub(crate) fn said(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Where and how exactly it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the CUDA card; none is the processor.
    pub card: Option<u32>,
    /// How numbers are kept between layers.
    pub precision: Precision,
}

impl Place {
    /// libtorch's word for it.
    pub(crate) fn device(self) -> tch::Device {
        self.card.map_or(tch::Device::Cpu, |card| tch::Device::Cuda(card as usize))
    }

    /// How numbers are kept between layers.
    pub(crate) fn kind(self) -> Kind {
        match self.precision {
            Precision::Fp32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        }
    }

    /// Whether there is such a card.
    pub(crate) fn is_there(self) -> bool {
        self.card.is_none_or(|card| i64::from(card) < cards())
    }
}

/// CUDA cards that libtorch sees.
pub(crate) fn cards() -> i64 {
    if Cuda::is_available() { Cuda::device_count() } else { 0 }
}

/// Sets how many threads the calls of this thread use.
pub(crate) fn use_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(1));
}

/// Numbers on a device.
pub(crate) fn tensor(values: &[f32], shape: &[usize], device: tch::Device) -> Torch<Tensor> {
    let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    Tensor::f_from_slice(values)?.f_reshape(shape)?.f_to_device(device)
}

/// The same tensor, a pixel's channels side by side in memory; others than images and kernels as they are.
pub(crate) fn channels_last(t: &Tensor) -> Torch<Tensor> {
    if t.dim() != 4 {
        return t.f_contiguous();
    }
    t.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
}

/// Copies a tensor of float32 to a slice of its size.
pub(crate) fn copy(t: &Tensor, out: &mut [f32]) -> Torch<()> {
    let flat = t.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
    if flat.numel() != out.len() {
        return Err(tch::TchError::Shape(format!("{:?} for {} numbers", flat.size(), out.len())));
    }
    flat.f_copy_data(out, out.len())
}

/// Convolution with a kernel of an uneven side that keeps the size, or divides it by the stride.
pub(crate) fn conv(z: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize) -> Torch<Tensor> {
    let (side, stride) = (weight.size().last().copied().unwrap_or(1) / 2, stride as i64);
    z.f_conv2d(weight, bias, [stride, stride], [side, side], [1, 1], 1)
}

/// Transposed convolution whose kernel is its stride.
pub(crate) fn raise(z: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize) -> Torch<Tensor> {
    let stride = stride as i64;
    z.f_conv_transpose2d(weight, bias, [stride, stride], [0, 0], [0, 0], 1, [1, 1])
}

/// Mean over squares of that side (average pooling).
pub(crate) fn average(z: &Tensor, side: usize) -> Torch<Tensor> {
    let side = side as i64;
    z.f_avg_pool2d([side, side], [side, side], [0, 0], false, true, None::<i64>)
}
