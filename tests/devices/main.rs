//! Every device against the CPU: odd sizes, sizes that are no multiple of any tile, batches of one and
//! more, outputs poisoned before each launch.

mod bodies;
#[path = "../cases/mod.rs"]
mod cases;
#[path = "../common/devices.rs"]
mod devices;

use hotad_kernels::device::{Device, Gpu, Precision};

#[test]
fn kernels_agree_with_the_cpu() {
    for device in devices::under_test() {
        if device.gpu().is_none() {
            continue;
        }
        for (name, body) in bodies::ALL {
            let (got, want) = (body(&device), body(&Device::CPU));
            bodies::compare(&format!("{name} on {}", device.name()), &got, &want);
        }
    }
}

#[test]
fn operations_agree_with_the_cpu() {
    for device in devices::under_test().iter().filter(|d| d.gpu().is_some()) {
        for case in cases::all() {
            let on = |device: &Device| bodies::of_case(case, device);
            bodies::compare(&format!("{} on {}", case.name, device.name()), &on(device), &on(&Device::CPU));
        }
    }
}

#[test]
fn tensor_cores_agree_with_the_cpu() {
    // Those of the emulator are tested in tests/emulator.
    let has_them = |gpu: &Gpu| gpu.facts().tensor_cores && gpu.name() != "emu";
    for device in devices::under_test() {
        let Some(gpu) = device.gpu().filter(|gpu| has_them(gpu)) else { continue };
        for precision in [Precision::Tf32, Precision::F16, Precision::Bf16] {
            let rounding = Device::Gpu(gpu.with_precision(precision).expect("tensor cores"));
            bodies::agree_when_rounded(&rounding, &format!("{} in {precision:?}", device.name()));
        }
    }
}

#[test]
fn operands_on_two_devices_are_refused() {
    use hotad_kernels::activation::Activation;
    for device in devices::under_test().iter().filter(|d| d.gpu().is_some()) {
        let here = Device::CPU.upload(vec![1.0f32; 4]).expect("memory");
        let mut there = device.upload(vec![1.0f32; 4]).expect("memory");
        let error = Activation::Relu.backward(&here, &mut there).expect_err("two devices");
        assert!(error.to_string().contains("different devices"), "{error}");
    }
}

#[test]
fn results_repeat_bit_by_bit() {
    for device in devices::under_test() {
        for (name, body) in bodies::ALL {
            let bits = || -> Vec<Vec<u32>> {
                body(&device).into_iter().map(|(v, _)| v.into_iter().map(f32::to_bits).collect()).collect()
            };
            assert!(bits() == bits(), "{name} on {} differs from run to run", device.name());
        }
        for case in cases::all() {
            for inputs in case.checked {
                let bits = || -> Vec<u32> {
                    cases::results(case, inputs, &device).concat().into_iter().map(f32::to_bits).collect()
                };
                assert!(bits() == bits(), "{} on {} differs from run to run", case.name, device.name());
            }
        }
    }
}

#[test]
fn a_buffer_that_is_too_large_is_refused_with_its_size() {
    for device in devices::under_test().iter().filter(|d| d.gpu().is_some()) {
        let most = device.gpu().expect("filtered").facts().largest_buffer;
        let error = device.alloc::<f32>(most as usize / 4 + 1024).expect_err("too large");
        for word in ["MiB", "smaller batch", device.name()] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}

#[test]
fn host_memory_that_is_not_there_is_refused_with_its_size() {
    for len in [1_usize << 50, usize::MAX] {
        let line = Device::CPU.alloc::<f32>(len).expect_err("too large").to_string();
        assert!(line.contains("out of memory") && line.contains("MiB"), "{line}");
    }
}

#[test]
fn devices_that_do_not_exist_are_refused() {
    for name in ["cuda:93", "wgpu:93", "tpu", "cuda:x"] {
        let error = Device::open(name).expect_err("no such device");
        assert!(error.to_string().contains(name), "{error}");
    }
}
