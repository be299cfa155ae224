//! Places of elements that lie in memory with strides, in row-major order of their indices.

/// Calls `visit` with the place of each element, the last index fastest. Shape and strides are of one length.
pub(super) fn for_each_place<E>(
    shape: &[usize],
    strides: &[usize],
    mut visit: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    if shape.contains(&0) {
        return Ok(());
    }
    let mut index = vec![0; shape.len()];
    let mut place = 0;
    loop {
        visit(place)?;
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return Ok(());
            }
            axis -= 1;
            index[axis] += 1;
            place += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            place -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
}

/// Strides of an array without gaps whose last index is fastest; its product must be within `usize`.
pub(super) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}

/// Strides of an array without gaps whose first index is fastest.
pub(super) fn column_major(shape: &[usize]) -> Vec<usize> {
    let reversed: Vec<usize> = shape.iter().rev().copied().collect();
    row_major(&reversed).into_iter().rev().collect()
}

/// Elements of a shape, if a number can hold that.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    // A length of 0 must not hide that the others are beyond any memory: strides are their products.
    shape.iter().try_fold(1usize, |product, side| product.checked_mul((*side).max(1)))?;
    Some(shape.iter().product())
}
