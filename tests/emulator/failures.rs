//! A device that fails gives one clear line, and no panic.

use hotad_kernels::device::emulator::{Fault, Settings};
use hotad_kernels::device::{Buffer, Device};

use crate::open;

/// An emulated GPU with a fault, or with little memory.
fn device(memory: u64, fault: Option<Fault>) -> Option<Device> {
    open(&Settings { memory, fault, ..Settings::default() }).map(Device::Gpu)
}

const MIB: u64 = 1 << 20;

/// Floats in so many mebibytes.
fn floats(mebibytes: usize) -> usize {
    mebibytes << 18
}

pub fn is_one_line(error: &impl ToString, words: &[&str]) {
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

/// How often a thread of this process has given up its core to wait.
#[cfg(target_os = "linux")]
fn waits(thread: &std::path::Path) -> u64 {
    let status = std::fs::read_to_string(std::path::Path::new("/proc").join(thread).join("status")).expect("a thread");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).expect("a count");
    line.trim().parse().expect("a number")
}

#[cfg(target_os = "linux")]
#[test]
fn the_thread_of_a_device_that_was_dropped_does_nothing() {
    let Some(device) = device(8 * MIB, None) else { return };
    let zeros: Buffer = device.zeros(floats(1)).expect("memory");
    let thread = device.run(|| std::fs::read_link("/proc/thread-self")).expect("a thread");
    let still = || {
        let before = waits(&thread);
        std::thread::sleep(std::time::Duration::from_millis(200));
        waits(&thread) == before
    };
    assert!(!still(), "it looks for work");
    drop((device, zeros));
    assert!((0..100).any(|_| still()), "20 seconds later it still looks for work");
}

#[test]
fn out_of_memory_is_told_with_sizes_and_survived() {
    let Some(device) = device(8 * MIB, None) else { return };
    let first: Buffer = device.zeros(floats(5)).expect("memory");
    let error = device.alloc::<f32>(floats(4)).expect_err("no room");
    is_one_line(&error, &["emu", "out of memory", "4.0 MiB was asked for", "3.0 MiB is free", "smaller batch"]);
    assert_eq!(device.zeros(floats(2)).expect("memory").to_vec().expect("zeros"), vec![0.0; floats(2)]);
    // Memory that waits for a buffer of its size is given back to the device for one of another.
    drop(first);
    assert_eq!(device.zeros(floats(6)).expect("memory").to_vec().expect("zeros"), vec![0.0; floats(6)]);
}

#[test]
fn a_refused_launch_is_told_once_and_the_device_goes_on() {
    let Some(device) = device(8 * MIB, Some(Fault::Launch(1))) else { return };
    let [first, second] = [(); 2].map(|()| device.zeros(100).expect("memory"));
    is_one_line(&first.to_vec().expect_err("refused"), &["emu", "launching", "fill_kernel", "refused on purpose"]);
    assert_eq!(first.to_vec().expect("told already"), vec![0.0; 100]);
    assert!(second.to_vec().expect("told already")[0].is_nan(), "poison, since nothing was launched");
    assert_eq!(device.zeros(100).expect("memory").to_vec().expect("works again"), vec![0.0; 100]);
}

#[test]
fn a_lost_device_says_so_whatever_is_asked() {
    let Some(device) = device(8 * MIB, Some(Fault::Loss(1))) else { return };
    let buffer = device.zeros(100).expect("memory");
    assert_eq!(buffer.to_vec().expect("not lost yet"), vec![0.0; 100]);
    let lost = ["emu", "the device was lost", "start again"];
    let more = device.zeros(100);
    for _ in 0..2 {
        is_one_line(&buffer.to_vec().expect_err("lost"), &lost);
        is_one_line(&device.gpu().expect("it is one").synchronize().expect_err("lost"), &lost);
        is_one_line(&device.upload(vec![1.0_f32]).expect_err("lost"), &lost);
        is_one_line(&device.zeros(200_000).expect_err("lost"), &lost);
    }
    drop((buffer, more));
}
