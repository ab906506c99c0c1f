//! Arguments of `hotad reproduce`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
#[command(
    after_help = "Example: hotad reproduce i3ad-1 --data mvtec/leather --data mvtec/transistor --out i3ad-1 --set i3ad.preset=small"
)]
pub struct ReproduceArgs {
    /// Name of the table; --list prints all
    #[arg(required_unless_present = "list")]
    pub table: Option<String>,
    /// Labelled data set, a column of the table; may be repeated. Where its folder has the name of a published column, as leather
    /// or mvtec_leather, what was published stands beside
    #[arg(long, required_unless_present = "list")]
    pub data: Vec<PathBuf>,
    /// Folder for models, table.json and table.md. What an earlier run has left there is not done again
    #[arg(long, required_unless_present = "list")]
    pub out: Option<PathBuf>,
    /// A setting of a method other than the paper's, e.g. i3ad.preset=small; may be repeated
    #[arg(long = "set", value_name = "METHOD.KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the tables that there are
    #[arg(long, conflicts_with_all = ["table", "data", "out", "set"])]
    pub list: bool,
}
