//! Some images of a batch, by their numbers: `y[i] = x[index[i]]`, block by block.
//!
//! Bytes: 4 read and 4 written per element that is kept.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;

use crate::device::{Buffer, HostBuffer, View, launch, units};
use crate::error::{Result, shape_error};

/// The blocks of `block` elements with these numbers, in their order.
///
/// # Errors
/// When a number is beyond the last block.
#[outlined]
pub fn gather<'a>(x: impl Into<View<'a>>, block: usize, index: &[usize]) -> Result<Buffer> {
    const OP: &str = "gather";
    let blocks = x.len() / block.max(1);
    if let Some(beyond) = index.iter().find(|i| **i >= blocks) {
        return shape_error(OP, format!("block {beyond} of {blocks}"));
    }
    match x {
        View::Host(x) => {
            let mut kept = HostBuffer::try_uninit(index.len() * block)?;
            let pairs = kept.chunks_exact_mut(block.max(1)).zip(index);
            pairs.for_each(|(to, i)| to.copy_from_slice(&x[i * block..(i + 1) * block]));
            Ok(Buffer::Host(kept))
        }
        View::Gpu(x) => {
            let n = index.len() * block;
            let numbers: Vec<u32> = index.iter().map(|i| *i as u32).collect();
            let (numbers, y) = (x.gpu().upload(&numbers)?, x.gpu().alloc(n)?);
            launch!(x.gpu(), gather_kernel, units(n), x.arg(), numbers.arg(), y.arg(), n, block);
            Ok(Buffer::Gpu(y))
        }
    }
}

#[cube(launch_unchecked)]
fn gather_kernel(x: &Array<f32>, index: &Array<u32>, y: &mut Array<f32>, n: usize, block: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        y[at] = x[index[at / block] as usize * block + at % block];
    }
}
