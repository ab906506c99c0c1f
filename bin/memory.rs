//! The memory of the program, and its last words where there is none left.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hotad_kernels::memory::Reporting;
use mimalloc::MiMalloc;

/// Training and scoring free and allocate large maps all the time; this keeps their pages.
#[global_allocator]
static ALLOCATOR: Reporting<MiMalloc> = Reporting { inner: MiMalloc, end: out_of_memory };

/// Whether a thread is saying why the process ends.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Seconds that another thread has to end the process.
const PATIENCE: u64 = 5;

/// Lets one thread say why the process ends: the first returns, others wait for it to do so.
pub fn begin_to_end() {
    for _ in 0..PATIENCE {
        if !ENDING.swap(true, Ordering::SeqCst) {
            return;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    std::process::exit(i32::from(crate::ERROR));
}

/// Ends the process with one line, whichever threads find that there is no memory.
fn out_of_memory(bytes: usize) -> ! {
    begin_to_end();
    let megabytes = bytes.div_ceil(1 << 20);
    let _ = writeln!(
        std::io::stderr(),
        "hotad: error: out of memory: {megabytes} MiB more could not be had; use a smaller --batch or image_size"
    ); // nowhere left to say it
    std::process::exit(i32::from(crate::ERROR));
}
