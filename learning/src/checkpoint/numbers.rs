//! A tensor's values from its storage: offset, strides and number type, to 32-bit numbers.

use consilium_common::limits;
use half::{bf16, f16};

use super::source::{Extent, Fault, Source};
use super::strided;
use super::value::{ElementType, Tensor};
use crate::network::WeightTensor;

/// Elements that are read at once where they lie without gaps.
const BLOCK: usize = 1 << 18;

/// Checks what the file claims about a tensor against its storage, before memory is taken for it.
pub(super) fn check(tensor: &Tensor, storage: Extent) -> Result<(), String> {
    let (shape, elements) = (tensor.shape(), tensor.elements());
    if elements > limits::MAX_TENSOR_ELEMENTS {
        return Err(format!("its shape {shape:?} has more elements than are read"));
    }
    let there = storage.bytes / tensor.element.bytes() as u64;
    if tensor.end as u64 > there {
        return Err(format!("it ends at element {} of a storage that has {there} in the file", tensor.end));
    }
    // Values that repeat (a stride of 0) would let a small file fill the memory.
    if elements as u64 > there {
        return Err(format!("its shape {shape:?} has more elements than its storage ({there})"));
    }
    if tensor.end.saturating_sub(tensor.offset) > limits::MAX_TENSOR_ELEMENTS {
        return Err(format!("its shape {shape:?} is spread too far over its storage"));
    }
    Ok(())
}

/// Reads a tensor that was checked.
pub(super) fn read(source: &Source, storage: Extent, tensor: &Tensor) -> Result<WeightTensor, Fault> {
    let size = tensor.element.bytes();
    let elements = tensor.elements();
    let place = |element: usize| storage.at + (element * size) as u64;
    let mut values = Vec::with_capacity(elements);
    let mut keep = |raw: &[u8]| match number(tensor.element, raw) {
        Some(value) => {
            values.push(value);
            Ok(())
        }
        None => Err(Fault::format(format!("a value of type {} is no 32-bit number", tensor.element))),
    };
    if is_dense(tensor) {
        for start in (0..elements).step_by(BLOCK) {
            let count = BLOCK.min(elements - start);
            let bytes = source.read(place(tensor.offset + start), (count * size) as u64)?;
            bytes.chunks_exact(size).try_for_each(&mut keep)?;
        }
    } else {
        let span = tensor.end - tensor.offset;
        let bytes = source.read(place(tensor.offset), (span * size) as u64)?;
        strided::for_each_place(&tensor.shape, &tensor.strides, |at| keep(&bytes[at * size..(at + 1) * size]))?;
    }
    Ok(WeightTensor { shape: tensor.shape.clone(), values })
}

/// Whether the elements lie in row-major order without gaps.
fn is_dense(tensor: &Tensor) -> bool {
    let expected = strided::row_major(&tensor.shape);
    let sides = tensor.shape.iter().zip(&tensor.strides).zip(&expected);
    tensor.shape.contains(&0) || sides.into_iter().all(|((side, stride), expected)| *side <= 1 || stride == expected)
}

/// A little-endian element as a 32-bit number. A 64-bit fraction is rounded, everything else must be exact.
fn number(element: ElementType, raw: &[u8]) -> Option<f32> {
    let whole = raw.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let unused = 64 - 8 * element.bytes() as u32;
    match element {
        ElementType::F32 => Some(f32::from_bits(whole as u32)),
        ElementType::F16 => Some(f16::from_bits(whole as u16).to_f32()),
        ElementType::Bf16 => Some(bf16::from_bits(whole as u16).to_f32()),
        ElementType::F64 => {
            let value = f64::from_bits(whole);
            let rounded = value as f32;
            (rounded.is_finite() || !value.is_finite()).then_some(rounded)
        }
        ElementType::I64 | ElementType::I32 | ElementType::I16 | ElementType::I8 => {
            let value = (whole.cast_signed() << unused) >> unused;
            // By 128 bits, since the largest i64 rounds up and would come back saturated.
            ((value as f32) as i128 == i128::from(value)).then_some(value as f32)
        }
        ElementType::U64 | ElementType::U32 | ElementType::U16 | ElementType::U8 => {
            ((whole as f32) as i128 == i128::from(whole)).then_some(whole as f32)
        }
        ElementType::Bool => Some(if whole == 0 { 0.0 } else { 1.0 }),
    }
}
