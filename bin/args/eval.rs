//! Arguments of `hotad eval`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedI64ValueParser;
use hotad_engine::data::corrupt::Corruption;
use hotad_engine::data::prepare::OnBroken;
use hotad_models::jobs::GROUP;

use super::methods::for_those;
use super::shards::Shards;
use super::shared::Trust;
use super::{ON_BROKEN, on_broken};

/// Images in each gallery of a report, unless told otherwise.
pub const IMAGES: u16 = 8;

/// Images in each gallery that may be asked for.
pub fn images() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=10_000)
}

#[derive(Args)]
#[command(
    after_help = "Example: hotad eval --model parts.safetensors --data parts --out report --json\n         hotad eval --model models/{}/patchcore.safetensors --model models/{}/paedid.safetensors --data bolts --data nuts --out comparison"
)]
pub struct EvalArgs {
    /// Model file; several are compared. {} stands for the name of the data set's folder
    #[arg(long, required = true)]
    pub model: Vec<PathBuf>,
    /// Labelled data set; several become columns of the comparison
    #[arg(long, required = true)]
    pub data: Vec<PathBuf>,
    #[command(flatten)]
    pub trust: Trust,
    /// Score under another setting, one that training does not depend on, e.g. residual=l2; may be repeated. Thresholds stay
    /// those of the model
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder for report.html and overlays, and for comparison.csv
    #[arg(long, conflicts_with = "shard")]
    pub out: Option<PathBuf>,
    /// Compare under changes of the test images too: brightness (times 0.8 to 1.2), blur (0.5 % of the longer
    /// side), noise (deviation 0.05), rotation (up to 5 degrees); without names, under all of them
    #[arg(long, value_name = "CHANGE", num_args = 0.., conflicts_with = "shard")]
    pub corrupt: Option<Vec<Corruption>>,
    #[arg(long, value_name = "KIND/NAME", num_args = 0.., requires = "out",
        help = for_those(|m| m.explainable, "show in the report what happens inside, for these test images (KIND/NAME, e.g. \
            color/003, or KIND/FILE.EXT); without names, for the clearest defects and the most suspicious good image"))]
    pub explain: Option<Vec<String>>,
    /// Images in each gallery of the report
    #[arg(long, value_name = "N", default_value_t = IMAGES, requires = "out", value_parser = images(), allow_negative_numbers = true)]
    pub images: u16,
    /// Which test images are of one part, which intervals draw together: auto (near-duplicates are found), none, a regular
    /// expression or a file, as for train
    #[arg(long, value_name = "auto|none|REGEX|FILE", default_value = GROUP)]
    pub group: String,
    /// What to do with a test image that cannot be decoded
    #[arg(long, value_parser = on_broken(), default_value = ON_BROKEN)]
    pub on_broken: OnBroken,
    #[command(flatten)]
    pub shards: Shards,
    /// Print one JSON object instead of a table
    #[arg(long, conflicts_with = "shard")]
    pub json: bool,
}
