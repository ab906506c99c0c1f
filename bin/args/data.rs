//! Arguments of `hotad demo` and `hotad synth`, which draw images.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use hotad_engine::data::synth::Kind;

#[derive(Args)]
#[command(after_help = "Example: hotad demo --out demo && open demo/report/report.html")]
pub struct DemoArgs {
    /// Folder for data set, model and report
    #[arg(long, default_value = "hotad-demo")]
    pub out: PathBuf,
    /// Only make the data set
    #[arg(long)]
    pub data_only: bool,
}

/// A kind of synthetic defect, by name.
fn kind() -> impl TypedValueParser<Value = Kind> {
    let parse = |name: String| Kind::ALL.into_iter().find(|(_, n)| *n == name).expect("one of the names").0;
    PossibleValuesParser::new(Kind::ALL.map(|(_, name)| name)).map(parse)
}

#[derive(Args)]
#[command(after_help = "Example: hotad synth --from parts --out cracked --kind crack --count 50 --size 128")]
pub struct SynthArgs {
    /// Data set whose normal test images are drawn on, or a plain folder
    #[arg(long)]
    pub from: PathBuf,
    /// New data set: test/good, test/KIND and ground_truth/KIND
    #[arg(long)]
    pub out: PathBuf,
    /// Kind of defect: a dark, jagged line with a branch; a bright, straight line; a dark or bright ellipse; a large, soft
    /// change of brightness; a piece of the image at a wrong place; a piece that has lost its sharpness
    #[arg(long, value_parser = kind(), default_value = "crack")]
    pub kind: Kind,
    /// Number of defective images
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000), allow_negative_numbers = true)]
    pub count: u32,
    /// Rows and columns to bring images to before drawing; their own size by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(16..=4096), allow_negative_numbers = true)]
    pub size: Option<u32>,
}
