//! Model files that have been altered: by accident, which the digest tells, and by someone who has made the digest anew,
//! which must end in a line and never in a panic, an endless run or a large allocation.

mod altered;
#[path = "../common/mod.rs"]
mod common;
mod crafted;
mod pipes;
#[path = "../common/small_models.rs"]
mod small_models;

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;
