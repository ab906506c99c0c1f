//! One file for each command.

pub mod backbone;
pub mod bank;
pub mod bench;
pub mod calibrate;
pub mod compare;
pub mod completions;
pub mod config;
pub mod cross_validation;
pub mod demo;
pub mod devices;
pub mod distill;
pub mod eval;
pub mod eval_shard;
pub mod export;
pub mod imbalance;
pub mod info;
pub mod merge;
pub mod methods;
pub mod roi;
pub mod score;
pub mod shard;
pub mod sign;
pub mod synth;
pub mod train;
