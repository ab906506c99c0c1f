//! Mean cosine of images to the entries of a bank on a GPU: one cube for each pair.

use cubecl::prelude::*;
use half::f16;

use super::LocationBank;
use super::gpu::GpuBankData;
use crate::device::{Gpu, GpuBuffer, UNITS, grid, launch};
use crate::error::Result;
use crate::reduce::cube_sum;

impl LocationBank {
    /// Queues the means.
    pub(super) fn means_on_gpu(&self, gpu: &Gpu, queries: &GpuBuffer, means: &mut GpuBuffer) -> Result<()> {
        let (locations, entries, dim) = self.shape();
        let bank = self.resident(gpu)?;
        let shape = (grid(means.len()), CubeDim::new_1d(UNITS));
        macro_rules! queue {
            ($data:expr, $element:ty) => {
                launch!(
                    gpu,
                    means_kernel<$element>,
                    shape,
                    queries.arg(),
                    $data.arg(),
                    bank.inverse_norms.arg(),
                    means.arg(),
                    means.len(),
                    locations,
                    entries,
                    dim
                )
            };
        }
        match &bank.data {
            GpuBankData::F16(data) => queue!(data, f16),
            GpuBankData::F32(data) => queue!(data, f32),
        }
        Ok(())
    }
}

/// A unit takes every 256th location.
#[cube(launch_unchecked)]
fn means_kernel<E: Float>(
    queries: &Array<f32>,
    bank: &Array<E>,
    inverse_norms: &Array<f32>,
    means: &mut Array<f32>,
    pairs: usize,
    locations: usize,
    entries: usize,
    dim: usize,
) {
    let pair = CUBE_POS;
    if pair < pairs {
        let (image, entry) = (pair / entries, pair % entries);
        let mut sum = f32::new(0.0);
        let mut location = UNIT_POS as usize;
        while location < locations {
            let query = (image * locations + location) * dim;
            let vector = location * entries + entry;
            let mut dot = f32::new(0.0);
            let mut square = f32::new(0.0);
            for k in 0..dim {
                let q = queries[query + k];
                dot += q * f32::cast_from(bank[vector * dim + k]);
                square += q * q;
            }
            let norm = square.sqrt();
            let own = select(norm > 0.0, 1.0 / f32::max(norm, f32::new(1e-37)), f32::new(0.0));
            sum += dot * inverse_norms[vector] * own;
            location += comptime!(UNITS as usize);
        }
        let total = cube_sum(sum);
        if UNIT_POS == 0 {
            means[pair] = total / f32::cast_from(locations);
        }
    }
}
