//! Runs a plain loop compiled for the widest instructions that the processor has: AVX-512, AVX2 with fused multiply-add,
//! or what the target has without asking. `pulp` holds the one unsafe call that this needs.

use pulp::{Simd, WithSimd};

/// Sums that are kept side by side and added up at the end, on every processor: the order of sums must not depend on it.
pub(crate) const LANES: usize = 16;

/// Runs an operation on explicit vectors: of sixteen numbers with AVX-512, of eight with AVX2 and FMA, else eight with the
/// same arithmetic lane by lane.
#[inline(always)]
pub(crate) fn vectors<Op: WithSimd>(op: Op) -> Op::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = pulp::x86::V4::try_new() {
            return Simd::vectorize(simd, op);
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            return Simd::vectorize(simd, op);
        }
    }
    Simd::vectorize(pulp::Scalar256b, op)
}

/// Numbers as vectors, or back.
#[inline(always)]
pub(crate) fn cast<A: bytemuck::Pod, B: bytemuck::Pod>(a: A) -> B {
    bytemuck::cast(a)
}

/// Runs `op`, which must be `#[inline(always)]` all the way down, with AVX2 and FMA where they exist.
#[inline(always)]
pub(crate) fn widest<R>(op: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(op);
    }
    op()
}
