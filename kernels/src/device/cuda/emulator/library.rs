//! The C++ side: the scheduler's library, and one for each kernel.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};

use super::{Order, Settings};
use crate::device::cuda::driver::{Address, Launch, Source};

/// `emu::Region` of run.h.
#[repr(C)]
struct Region {
    begin: *mut u8,
    end: *mut u8,
    writable: c_int,
    argument: c_int,
}

type Entry = unsafe extern "C" fn(*mut *mut c_void);

/// `emu::Call` of run.h.
#[repr(C)]
struct Call {
    entry: Entry,
    arguments: *mut *mut c_void,
    grid: [u32; 3],
    block: [u32; 3],
    shared: usize,
    fibred: c_int,
    cooperative: c_int,
    order: c_int,
    check: c_int,
    regions: *const Region,
    region_count: usize,
    report: *mut c_char,
    report_size: usize,
}

type Run = unsafe extern "C" fn(*const Call);

/// Bytes of a report at most.
const REPORT: usize = 64 << 10;

/// The scheduler has one state for the process.
static RUNNING: Mutex<()> = Mutex::new(());

/// scheduler.cpp and checker.cpp, whose functions kernels call.
#[derive(Clone, Copy, Debug)]
pub struct Scheduler {
    run: Run,
}

fn symbol<T: Copy>(library: &Library, name: &CStr) -> Result<T, String> {
    // SAFETY: every caller names a symbol of the type that the C++ source gives it.
    let found = unsafe { library.get::<T>(name.to_bytes_with_nul()) };
    found.map(|s| *s).map_err(|e| e.to_string())
}

impl Scheduler {
    /// Opens the library for good, so that those of kernels find its functions.
    pub fn open(path: &Path) -> Result<Self, String> {
        // SAFETY: it is compiled from our own sources, and nothing runs when it is opened.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map_err(|e| e.to_string())?;
        let run = symbol::<Run>(&library, c"emu_run")?;
        std::mem::forget(library);
        Ok(Self { run })
    }
}

/// A kernel's library.
#[derive(Debug)]
pub struct Kernel {
    run: Run,
    entry: Entry,
    /// Whether its threads wait for each other.
    fibred: bool,
    image: Vec<u8>,
    text: String,
    /// Keeps `entry`.
    _library: Library,
}

impl Kernel {
    /// Opens the library in a file that is gone afterwards.
    pub fn load(scheduler: &Scheduler, source: &Source, image: &[u8]) -> Result<Self, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hotad-emulator-{}-{n}.so", std::process::id()));
        std::fs::write(&path, image).map_err(|e| format!("{}: {e}", path.display()))?;
        // SAFETY: it was compiled from a kernel's source, and nothing runs when it is opened.
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
        std::fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let library = library.map_err(|e| e.to_string())?;
        let entry = symbol::<Entry>(&library, c"emu_entry")?;
        let text = symbol::<*const c_char>(&library, c"emu_source_text")?;
        // SAFETY: the source ends with a zero.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        let fibred = source.code.contains("__syncthreads()") || source.code.contains("_sync(");
        Ok(Self { run: scheduler.run, entry, fibred, image: image.to_vec(), text, _library: library })
    }

    /// What was loaded.
    pub fn image(&self) -> &[u8] {
        &self.image
    }

    /// The source that it was compiled from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Runs it and returns what the checker has to say.
    ///
    /// # Safety
    /// The launch is of this kernel's source, and its regions lie in host memory that nobody else uses.
    pub unsafe fn run(&self, launch: &Launch<'_>, settings: &Settings) -> String {
        let mut addresses: Vec<Address> = launch.buffers.iter().map(|b| b.address).collect();
        let mut arguments: Vec<*mut c_void> = addresses.iter_mut().map(|a| std::ptr::from_mut(a).cast()).collect();
        arguments.push(launch.info.as_ptr().cast_mut().cast());
        let region = |(i, b): (usize, &crate::device::cuda::driver::Region)| Region {
            begin: b.address as *mut u8,
            end: (b.address + b.bytes) as *mut u8,
            writable: launch.source.writable[i].into(),
            argument: i as c_int,
        };
        let regions: Vec<Region> = launch.buffers.iter().enumerate().map(region).collect();
        let mut report = vec![0_u8; REPORT];
        let call = Call {
            entry: self.entry,
            arguments: arguments.as_mut_ptr(),
            grid: launch.grid,
            block: launch.source.block,
            shared: launch.source.shared as usize,
            fibred: self.fibred.into(),
            cooperative: launch.source.cooperative.into(),
            order: match settings.order {
                Order::Forward => 0,
                Order::Reversed => 1,
                Order::Random(seed) => 2 + c_int::from(seed),
            },
            check: settings.check.into(),
            regions: regions.as_ptr(),
            region_count: regions.len(),
            report: report.as_mut_ptr().cast(),
            report_size: report.len(),
        };
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: all that the call refers to lives until it returns; the caller vouches for the buffers, and
        // only one thread is in the scheduler.
        unsafe { (self.run)(&call) };
        drop(running);
        CStr::from_bytes_until_nul(&report).map_or_else(|_| String::new(), |r| r.to_string_lossy().into_owned())
    }
}
