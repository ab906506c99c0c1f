//! What the process has asked of the system.

use hotad_engine::Result;
use hotad_kernels::memory::requests;
use serde::Serialize;

use super::refused;

/// Counters of this process, or what they have grown by.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Process {
    /// Requests to the allocator.
    pub allocations: u64,
    /// Bytes that they were for.
    pub allocated_bytes: u64,
    /// Page faults without reading from a disk; null where the system does not tell, as below.
    pub minor_faults: Option<i64>,
    /// Page faults with.
    pub major_faults: Option<i64>,
    /// Times that a thread waited.
    pub voluntary_switches: Option<i64>,
    /// Times that a thread was made to wait.
    pub involuntary_switches: Option<i64>,
    /// Bytes of memory that are resident.
    pub resident_bytes: Option<i64>,
}

impl Process {
    /// As they are.
    pub fn now() -> Self {
        let requests = requests();
        Self { allocations: requests.count, allocated_bytes: requests.bytes, ..of_system() }
    }

    /// What they have grown by since.
    pub fn since(&self, before: &Self) -> Self {
        let grown = |after: Option<i64>, before: Option<i64>| Some(after? - before?);
        Self {
            allocations: self.allocations - before.allocations,
            allocated_bytes: self.allocated_bytes - before.allocated_bytes,
            minor_faults: grown(self.minor_faults, before.minor_faults),
            major_faults: grown(self.major_faults, before.major_faults),
            voluntary_switches: grown(self.voluntary_switches, before.voluntary_switches),
            involuntary_switches: grown(self.involuntary_switches, before.involuntary_switches),
            resident_bytes: grown(self.resident_bytes, before.resident_bytes),
        }
    }
}

#[cfg(unix)]
fn of_system() -> Process {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Process::default() };
    Process {
        minor_faults: Some(usage.minor_page_faults()),
        major_faults: Some(usage.major_page_faults()),
        voluntary_switches: Some(usage.voluntary_context_switches()),
        involuntary_switches: Some(usage.involuntary_context_switches()),
        resident_bytes: resident(),
        ..Process::default()
    }
}

#[cfg(not(unix))]
fn of_system() -> Process {
    Process::default()
}

/// Bytes of memory that are resident, where Linux tells.
#[cfg(unix)]
fn resident() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok().map(|kilobytes| 1024 * kilobytes)
}

/// Keeps all memory of the process, now and later, from being swapped out.
#[cfg(unix)]
pub fn lock_memory() -> Result<()> {
    use nix::sys::mman::{MlockAllFlags, mlockall};
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).map_err(|error| {
        refused(
            "--lock-memory",
            format!("the system does not allow it ({error}); raise the limit (ulimit -l unlimited)"),
        )
    })
}

#[cfg(not(unix))]
pub fn lock_memory() -> Result<()> {
    Err(refused("--lock-memory", "only Unix systems can"))
}

/// The cores that this process may run on.
#[cfg(target_os = "linux")]
pub fn cores() -> Result<Vec<usize>> {
    use nix::sched::{CpuSet, sched_getaffinity};
    use nix::unistd::Pid;
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(|e| refused("--pin", e))?;
    Ok((0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect())
}

#[cfg(not(target_os = "linux"))]
pub fn cores() -> Result<Vec<usize>> {
    Err(refused("--pin", "only Linux can"))
}
