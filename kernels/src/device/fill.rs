//! Filling and copying the buffers of a GPU. Bytes: 4 written, and 4 read where copied, per element.

use cubecl::prelude::*;

use super::{GpuBuffer, launch, units};

#[cube(launch_unchecked)]
fn fill_kernel(x: &mut Array<f32>, n: usize, value: f32) {
    if ABSOLUTE_POS < n {
        x[ABSOLUTE_POS] = value;
    }
}

/// Writes `value` everywhere.
pub(crate) fn fill(x: &mut GpuBuffer, value: f32) {
    let n = x.len();
    launch!(x.gpu(), fill_kernel, units(n), x.arg(), n, value);
}

#[cube(launch_unchecked)]
fn copy_kernel(from: &Array<f32>, to: &mut Array<f32>, n: usize) {
    if ABSOLUTE_POS < n {
        to[ABSOLUTE_POS] = from[ABSOLUTE_POS];
    }
}

/// Copies all numbers.
pub(crate) fn copy(from: &GpuBuffer, to: &mut GpuBuffer) {
    let n = to.len();
    launch!(to.gpu(), copy_kernel, units(n), from.arg(), to.arg(), n);
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use super::*;
    use crate::device::{Device, grid};

    #[test]
    fn a_workgroup_that_is_refused_is_an_error_of_the_next_read() {
        let device = match Device::open("wgpu") {
            Ok(device) => device,
            Err(e) => return eprintln!("skipped: {e}"),
        };
        let gpu = device.gpu().expect("wgpu is one");
        let x = gpu.alloc::<f32>(4).expect("memory");
        launch!(gpu, fill_kernel, (grid(1), CubeDim::new_1d(1 << 20)), x.arg(), 4, 1.0);
        let line = x.read().expect_err("no adapter takes so many units").to_string();
        assert!(line.starts_with(gpu.name()) && !line.contains('\n'), "{line}");
    }
}
