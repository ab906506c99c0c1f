//! Joining batches, and taking a part of one.

use hotad_kernels::device::Buffer;
use hotad_kernels::rows::copy_range;
use smallvec::{SmallVec, smallvec};

use crate::error::{Error, Result};
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

/// The shape with another number of rows.
fn with_rows(shape: &[usize], rows: usize) -> SmallVec<[usize; 4]> {
    std::iter::once(rows).chain(shape[1..].iter().copied()).collect()
}

struct JoinGrad {
    first: usize,
    second: usize,
}

impl Grad for JoinGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let device = grad.device();
        let (mut a, mut b) = (device.alloc(self.first)?, device.alloc(self.second)?);
        copy_range(&grad, 0, &mut a, 0, self.first)?;
        copy_range(&grad, self.first, &mut b, 0, self.second)?;
        Ok(smallvec![Some(a), Some(b)])
    }
}

/// `[n, ..]` and `[m, ..]` to `[n + m, ..]`.
///
/// # Errors
/// When their rows differ.
pub fn join_rows(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let same = !a.shape().is_empty() && a.shape().get(1..) == b.shape().get(1..);
    if !same {
        let detail = format!("{:?} and {:?} have other rows", a.shape(), b.shape());
        return Err(Error::Shape { op: "join_rows", detail });
    }
    let (first, second) = (a.len(), b.len());
    let mut y = a.device().alloc(first + second)?;
    copy_range(a.view(), 0, &mut y, 0, first)?;
    copy_range(b.view(), 0, &mut y, first, second)?;
    let shape = with_rows(a.shape(), a.shape()[0] + b.shape()[0]);
    Tensor::result(y, &shape, &[a, b], || JoinGrad { first, second })
}

struct RowsGrad {
    at: usize,
    whole: usize,
}

impl Grad for RowsGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let mut dx = grad.device().zeros(self.whole)?;
        copy_range(&grad, 0, &mut dx, self.at, grad.len())?;
        Ok(smallvec![Some(dx)])
    }
}

/// Rows `first` to `first + count` of `[n, ..]`.
///
/// # Errors
/// When there are not so many.
pub fn rows(x: &Tensor, first: usize, count: usize) -> Result<Tensor> {
    let row: usize = x.shape().iter().skip(1).product();
    let mut y = x.device().alloc(count * row)?;
    let (at, whole) = (first * row, x.len());
    copy_range(x.view(), at, &mut y, 0, count * row)?;
    Tensor::result(y, &with_rows(x.shape(), count), &[x], || RowsGrad { at, whole })
}
