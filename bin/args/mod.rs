//! The command line as typed, one file for each group of commands.

mod backbone;
mod bank;
mod bench;
mod calibrate;
mod data;
mod distill;
mod eval;
mod export;
mod look;
mod methods;
mod reproduce;
mod roi;
mod score;
mod shards;
mod shared;
mod sign;
mod train;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use hotad_engine::data::prepare::OnBroken;
use hotad_models::jobs;

use crate::continued::Continued;

pub use backbone::{BackboneAction, BackboneArgs, BackboneImportArgs};
pub use bank::{BankAction, BankAddArgs, BankArgs, BankRemoveArgs};
pub use bench::{BenchArgs, BenchFrom};
pub use calibrate::CalibrateArgs;
pub use data::{DemoArgs, SynthArgs};
pub use distill::{DistillArgs, Hints};
pub use eval::{EvalArgs, IMAGES};
pub use export::ExportArgs;
pub use look::{CompletionsArgs, ConfigArgs, DevicesArgs, InfoArgs, MethodsArgs};
pub use reproduce::ReproduceArgs;
pub use roi::RoiArgs;
pub use score::{Maps, ScoreArgs, Thresholds};
pub use shards::MergeArgs;
pub use shared::{Common, Shared};
use shared::{Drawing, Evaluating, Learning, Quiet, Scoring, Timing, With};
pub use sign::SignArgs;
pub use train::TrainArgs;

/// Image anomaly detection on kernels of its own.
#[derive(Parser)]
#[command(version = env!("HOTAD_VERSION"), about, after_help = "Start with: hotad demo --out demo")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Make a small data set, train on it, evaluate, write a report: the two-minute tour
    Demo(With<DemoArgs, Evaluating>),
    /// Train a method on the normal images of a data set
    Train(With<TrainArgs, Learning>),
    /// Score images: one JSON object a line
    Score(With<ScoreArgs, Scoring>),
    /// Metrics of a model on a labelled data set, and a report
    Eval(With<EvalArgs, Evaluating>),
    /// Make one result of what the shards of score or eval have found
    Merge(MergeArgs),
    /// Find the thresholds of a model anew, without training
    Calibrate(With<CalibrateArgs, Evaluating>),
    /// Train and evaluate what a table of a paper compares, beside what was published
    Reproduce(With<ReproduceArgs, Evaluating>),
    /// Draw defects with exact masks on real normal images
    Synth(With<SynthArgs, Drawing>),
    /// Write the network of a model or a backbone as an ONNX file
    Export(With<ExportArgs, Quiet>),
    /// Networks that have learned on ImageNet: import their weights from files, list, describe
    Backbone(BackboneArgs),
    /// Train a network to give the feature maps of a backbone, on any images
    #[command(mut_arg("batch", |batch| batch.help("Images of one training step")))]
    Distill(With<DistillArgs, Learning>),
    /// Latency of a model on this machine: percentiles, missed deadlines, allocations
    Bench(With<BenchArgs, Timing>),
    /// Extend, prune or list the memory bank of a trained model, without retraining
    Bank(BankArgs),
    /// Print or change the region of images that a model looks at
    Roi(RoiArgs),
    /// What a model file holds
    Info(InfoArgs),
    /// Sign model files, or make a key for that
    Sign(SignArgs),
    /// Devices of this machine
    Devices(DevicesArgs),
    /// Methods that can be trained
    Methods(MethodsArgs),
    /// Print the documented settings of a method as TOML
    Config(ConfigArgs),
    /// Print shell completions
    Completions(CompletionsArgs),
}

impl Command {
    /// How it is continued after an interruption.
    pub fn continued(&self) -> Continued {
        match self {
            Self::Train(_) | Self::Distill(_) => Continued::ByOption,
            Self::Reproduce(_) => Continued::BySameCommand,
            _ => Continued::Not,
        }
    }
}

/// What is done with a broken image by default, as typed.
const ON_BROKEN: &str = jobs::ON_BROKEN.name();

/// What to do with a broken image, as typed.
fn on_broken() -> impl TypedValueParser<Value = OnBroken> {
    let refuse = PossibleValue::new(OnBroken::Refuse.name()).help("Name the file and fail");
    let skip = PossibleValue::new(OnBroken::Skip.name()).help("Name the file and go on without it");
    PossibleValuesParser::new([refuse, skip]).map(|name| name.parse().expect("one of the two"))
}
