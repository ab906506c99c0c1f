//! Launching a kernel on whichever runtime a buffer lives on.

use cubecl::prelude::{CubeCount, CubeDim};

/// Units of a cube of an element-wise kernel.
pub(crate) const UNITS: u32 = 256;

/// Most cubes along one axis that every runtime takes.
const AXIS: usize = 65_535;

/// `cubes` cubes along two axes; kernels find their place by `CUBE_POS` or `ABSOLUTE_POS` and leave
/// when it is beyond the end.
pub(crate) fn grid(cubes: usize) -> CubeCount {
    let x = cubes.clamp(1, AXIS);
    CubeCount::Static(x as u32, cubes.div_ceil(x).max(1) as u32, 1)
}

/// One unit for each of `n` elements, and the size of a cube.
pub(crate) fn units(n: usize) -> (CubeCount, CubeDim) {
    (grid(n.div_ceil(UNITS as usize)), CubeDim::new_1d(UNITS))
}

/// Queues a kernel: `launch!(gpu, kernel, (count, dim), arguments...)`, generics as `kernel<f16>`.
macro_rules! launch {
    ($gpu:expr, $kernel:ident $(<$($g:ty),+>)?, $shape:expr $(, $arg:expr)* $(,)?) => {{
        #[allow(unused_variables)] // without any runtime there is no arm
        let (count, dim) = $shape;
        match *$gpu.client() {
            #[cfg(feature = "cuda")]
            // SAFETY: every kernel of this crate leaves, or skips the access, when an index is beyond
            // the lengths that its public function has checked, and all its loops are bounded by them.
            $crate::device::Client::Cuda(ref queue) => unsafe {
                $kernel::launch_unchecked::<$($($g,)+)? $crate::device::Cuda>(queue.client(), count, dim $(, $arg)*)
            },
            #[cfg(feature = "wgpu")]
            // SAFETY: as above.
            $crate::device::Client::Wgpu(ref client) => unsafe {
                $kernel::launch_unchecked::<$($($g,)+)? cubecl::wgpu::WgpuRuntime>(client, count, dim $(, $arg)*)
            },
        }
    }};
}
pub(crate) use launch;
