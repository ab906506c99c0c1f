//! CUDA: CubeCL's kernels as CUDA C++, on a server of hotad's own.
//!
//! A launch goes through CubeCL's client to the [`server`], which runs on a thread of its own, makes the
//! kernel once ([`kernels`], [`cache`]) and queues it on the device's one stream. Memory comes from an arena
//! ([`memory`]), copies go through pinned memory ([`staging`]), both by [`queue`]. Work that does the same every time is
//! recorded ([`recording`]) and queued as one ([`replay`]), on a GPU as a CUDA graph. A [`driver`] is what runs
//! it all: NVIDIA's through cudarc ([`nvidia`], [`nvrtc`]), one that only compiles
//! ([`offline`]), or the host's CPU (`emulator`).

mod cache;
mod driver;
#[cfg(all(unix, target_arch = "x86_64"))]
pub mod emulator;
mod found;
mod graph;
mod kernels;
mod memory;
mod nvidia;
mod nvrtc;
pub mod offline;
mod properties;
mod queue;
mod recording;
mod replay;
mod server;
mod staging;
mod written;

pub(super) use found::{open, probe};
pub(crate) use queue::Queue;
pub(super) use recording::aside;
pub(super) use replay::{MOST_COPIED, Replay};
pub(crate) use server::Cuda;
pub(crate) use written::{COOPERATIVE, WARP, Written, launch as launch_written, macros};
