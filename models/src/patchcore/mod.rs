//! PatchCore.

pub mod nearest;
