//! The memory of the program, and its last words where there is none left.

use std::io::Write;
use std::sync::OnceLock;
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

/// What smaller numbers of take less memory, unless a command has said otherwise.
const REMEDY: &str = " (--batch, image_size)";
/// The same for the command that runs.
static REMEDY_OF_COMMAND: OnceLock<String> = OnceLock::new();

/// Says what options take less memory in the command that runs; the first word holds.
pub fn set_remedy(options: &str) {
    let _ = REMEDY_OF_COMMAND.set(if options.is_empty() { String::new() } else { format!(" ({options})") });
}

/// Options that take less memory, in brackets after a space; empty where there is none.
pub fn remedy() -> &'static str {
    REMEDY_OF_COMMAND.get().map_or(REMEDY, String::as_str)
}

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
    let wanted = format_args!("{megabytes} MiB more could not be had");
    // Where nobody listens there is nowhere left to say it.
    let _ = writeln!(std::io::stderr(), "hotad: error: out of memory: {wanted}; use less{}", remedy());
    std::process::exit(i32::from(crate::ERROR));
}
