//! The operations of kernels/, by family.

mod convolution;
mod elementwise;
mod features;
mod gan;
mod gated;
mod images;
mod memory;
mod networks;
mod spatial;

use crate::case::{Case, Outputs};

/// Runs the operation of a case; `None` when it is not known.
pub fn run(case: &Case) -> Option<Outputs> {
    elementwise::run(case)
        .or_else(|| convolution::run(case))
        .or_else(|| gated::run(case))
        .or_else(|| gan::run(case))
        .or_else(|| spatial::run(case))
        .or_else(|| images::run(case))
        .or_else(|| memory::run(case))
        .or_else(|| features::run(case))
        .or_else(|| networks::run(case))
}
