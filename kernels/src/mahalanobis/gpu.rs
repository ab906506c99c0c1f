//! The distances on a GPU: one cube for a location and a group of images, one unit for a row of the factor.

use cubecl::prelude::*;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::{Factors, LocationGaussians, OP, packed_len};
use crate::device::{Gpu, GpuBuffer, UNITS, grid, launch, mixed};
use crate::error::Result;
use crate::reduce::cube_sum;

/// Images that one pass over a factor serves.
const GROUP: usize = 4;

/// Gaussians in the memory of a GPU.
#[derive(Clone, Debug)]
pub(super) struct GpuGaussians {
    mean: GpuBuffer,
    factors: GpuFactors,
    scales: GpuBuffer,
}

/// Factors on a GPU; halves are widened where it has none.
#[derive(Clone, Debug)]
enum GpuFactors {
    F16(GpuBuffer<f16>),
    F32(GpuBuffer),
}

impl LocationGaussians {
    /// The Gaussians in the memory of `gpu`, uploaded when first asked for.
    fn resident(&self, gpu: &Gpu) -> Result<&GpuGaussians> {
        let there = match self.resident.get() {
            Some(there) => there,
            None => {
                let there = self.upload(gpu)?;
                self.resident.get_or_init(|| there)
            }
        };
        if there.scales.gpu().is(gpu) { Ok(there) } else { mixed(OP) }
    }

    fn upload(&self, gpu: &Gpu) -> Result<GpuGaussians> {
        let factors = match &self.factors {
            Factors::F16(v) if gpu.facts().f16 => GpuFactors::F16(gpu.upload(v)?),
            Factors::F16(v) => {
                let mut wide = vec![0.0; v.len()];
                v.convert_to_f32_slice(&mut wide);
                GpuFactors::F32(gpu.upload(&wide)?)
            }
            Factors::F32(v) => GpuFactors::F32(gpu.upload(v)?),
        };
        Ok(GpuGaussians { mean: gpu.upload(&self.mean)?, factors, scales: gpu.upload(&self.scales)? })
    }

    /// Queues the distances.
    pub(super) fn on_gpu(&self, gpu: &Gpu, x: &GpuBuffer, images: usize, y: &mut GpuBuffer) -> Result<()> {
        let (locations, dim) = self.shape();
        let there = self.resident(gpu)?;
        let group = if images > 1 { GROUP } else { 1 };
        let shape = (grid(locations * images.div_ceil(group)), CubeDim::new_1d(UNITS));
        macro_rules! queue {
            ($factors:expr, $element:ty) => {
                launch!(
                    gpu,
                    distance_kernel<$element>,
                    shape,
                    x.arg(),
                    there.mean.arg(),
                    $factors.arg(),
                    there.scales.arg(),
                    y.arg(),
                    DistanceSizesLaunch::new(images, locations, dim, packed_len(dim)),
                    group
                )
            };
        }
        match &there.factors {
            GpuFactors::F16(factors) => queue!(factors, f16),
            GpuFactors::F32(factors) => queue!(factors, f32),
        }
        Ok(())
    }
}

/// Sizes of a call.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct DistanceSizes {
    images: usize,
    locations: usize,
    dim: usize,
    /// Elements of a packed factor.
    packed: usize,
}

/// Rows of a factor, and elements of a vector, at a time: one for each unit.
const ROWS: usize = UNITS as usize;
/// Rows of a packed factor that lie side by side.
const BLOCK: usize = 8;

/// [`ROWS`] rows at a time; of the centred vectors, as many elements at a time are in shared memory. Eight neighbouring
/// units read eight neighbouring elements of a factor.
#[cube(launch_unchecked)]
fn distance_kernel<E: Float>(
    x: &Array<f32>,
    mean: &Array<f32>,
    factors: &Array<E>,
    scales: &Array<f32>,
    y: &mut Array<f32>,
    s: DistanceSizes,
    #[comptime] group: usize,
) {
    let location = CUBE_POS % s.locations;
    let first_image = CUBE_POS / s.locations * group;
    if first_image < s.images {
        let mut centred = SharedMemory::<f32>::new(comptime!(group * ROWS));
        let unit = UNIT_POS as usize;
        let mut squares = zeros(group);
        let mut first_row = 0usize;
        while first_row < s.dim {
            let row = first_row + unit;
            let from = location * s.packed + row_at(row);
            let mut sums = zeros(group);
            let mut first = 0usize;
            while first <= first_row {
                sync_cube();
                load_centred(x, mean, &mut centred, first, first_image, location, s, group);
                sync_cube();
                if row < s.dim {
                    // `first` is a multiple of `ROWS` that is no larger than the first row.
                    let count = usize::min(ROWS, row + 1 - first);
                    for k in 0..count {
                        let w = f32::cast_from(factors[from + BLOCK * (first + k)]);
                        #[unroll]
                        for g in 0..group {
                            sums[g] += w * centred[g * ROWS + k];
                        }
                    }
                }
                first += ROWS;
            }
            #[unroll]
            for g in 0..group {
                squares[g] += sums[g] * sums[g];
            }
            first_row += ROWS;
        }
        #[unroll]
        for g in 0..group {
            let total = cube_sum(squares[g]);
            let image = first_image + g;
            if unit == 0 && image < s.images {
                y[image * s.locations + location] = total.sqrt() * scales[location];
            }
        }
    }
}

/// A sum for each image of a group, all zero.
#[cube]
fn zeros(#[comptime] group: usize) -> Array<f32> {
    let mut sums = Array::<f32>::new(group);
    #[unroll]
    for g in 0..group {
        sums[g] = f32::new(0.0);
    }
    sums
}

/// Where row `row` of a packed factor begins: before block b of rows lie `BLOCK^2 / 2 b (b + 1)` elements.
#[cube]
fn row_at(row: usize) -> usize {
    let block = row / BLOCK;
    comptime!(BLOCK * BLOCK / 2) * block * (block + 1) + row % BLOCK
}

/// Elements from `first` on of the centred vectors of a group; beyond the last image they are that one's.
#[cube]
fn load_centred(
    x: &Array<f32>,
    mean: &Array<f32>,
    centred: &mut SharedMemory<f32>,
    first: usize,
    first_image: usize,
    location: usize,
    s: DistanceSizes,
    #[comptime] group: usize,
) {
    let unit = UNIT_POS as usize;
    #[unroll]
    for g in 0..group {
        let image = usize::min(first_image + g, s.images - 1);
        let column = first + unit;
        let mut value = f32::new(0.0);
        if column < s.dim {
            value = x[(image * s.locations + location) * s.dim + column] - mean[location * s.dim + column];
        }
        centred[g * ROWS + unit] = value;
    }
}
