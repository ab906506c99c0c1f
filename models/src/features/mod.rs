//! Feature maps.

pub mod pca;
