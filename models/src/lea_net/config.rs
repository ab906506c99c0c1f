//! Settings of LEA-Net.

use hotad_engine::Result;
use hotad_engine::data::picture::ImageSpec;
use serde::{Deserialize, Serialize};

use crate::color_unet;
use crate::color_unet::MapScale;
use crate::config::{Choice, Settings, check_epochs, require};
use crate::networks::POINTS;

/// The network that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectionNetwork {
    /// ResNet-18.
    Resnet18,
    /// ResNet-50, a baseline.
    Resnet50,
    /// VGG-16.
    Vgg16,
    /// VGG-19, a baseline.
    Vgg19,
    /// The basic CNN of tables 7 and 8.
    Cnn,
}

impl DetectionNetwork {
    /// As the paper writes it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Resnet18 => "ResNet18",
            Self::Resnet50 => "ResNet50",
            Self::Vgg16 => "VGG16",
            Self::Vgg19 => "VGG19",
            Self::Cnn => "basic CNN",
        }
    }

    /// Whether it is a VGG.
    pub fn is_vgg(self) -> bool {
        matches!(self, Self::Vgg16 | Self::Vgg19)
    }
}

/// Where attention comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attention {
    /// Nowhere: the detection network alone.
    None,
    /// The anomaly map itself, resized ("Direct attention").
    Direct,
    /// The ResNet-based attention network of table 1.
    Resnet,
    /// The MobileNet-based attention network of table 1.
    Mobilenet,
}

impl Attention {
    /// As the paper's tables add it to a network's name.
    pub fn title(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Direct => " + Direct Attention",
            Self::Resnet => " + ResNet-based CAAN",
            Self::Mobilenet => " + MobileNet-small CAAN",
        }
    }

    /// Whether a network makes it.
    pub fn is_learned(self) -> bool {
        matches!(self, Self::Resnet | Self::Mobilenet)
    }
}

/// What the detection network sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The image.
    #[serde(rename = "rgb")]
    Rgb,
    /// The anomaly map alone.
    #[serde(rename = "map")]
    Map,
    /// Both, in four channels.
    #[serde(rename = "rgb+map")]
    RgbMap,
    /// The image under the map, by equation 3.
    #[serde(rename = "attended")]
    Attended,
}

impl Input {
    /// As the paper's tables add it to a network's name.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rgb => "",
            Self::Map => " (AnomalyMap input)",
            Self::RgbMap => " (4ch input)",
            Self::Attended => " (Attentioned input)",
        }
    }

    /// Channels that the network sees.
    pub fn channels(self) -> usize {
        match self {
            Self::Map => 1,
            Self::RgbMap => 4,
            Self::Rgb | Self::Attended => 3,
        }
    }
}

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Rows and columns.
    pub image_size: usize,
    /// The network that decides.
    pub detector: DetectionNetwork,
    /// Where attention comes from.
    pub attention: Attention,
    /// Attention point, 1 to 5.
    pub point: usize,
    /// What the detection network sees.
    pub input: Input,
    /// Channels of the first stage of the detection network and the ResNet-based attention network.
    pub width: usize,
    /// Epochs of both networks.
    pub epochs: usize,
    /// Images of one step.
    pub batch: usize,
    /// Learning rate.
    pub lr: Choice,
    /// As many defective images as normal ones in a batch.
    pub class_aware: bool,
    /// Share of defective images among all that are learned from; 0 takes all.
    pub positive_share: f64,
    /// torchvision weights for the detection network; empty for a random start.
    pub weights: String,
    /// Rows of the table that cross-validation prints.
    pub rows: Vec<String>,
    /// Attention points that cross-validation sweeps.
    pub points: Vec<usize>,
    /// Width of the colour network.
    pub color_width: usize,
    /// Most epochs of the colour network.
    pub color_epochs: usize,
    /// Learning rate of the colour network.
    pub color_lr: f64,
    /// Epochs of the colour network without improvement before stopping.
    pub color_patience: usize,
    /// Colour augmentation of the colour network.
    pub fancy_pca: f64,
    /// Dropout of the colour network.
    pub color_dropout: f64,
    /// Scale of the anomaly map.
    pub map_scale: MapScale,
}

impl Default for Config {
    fn default() -> Self {
        let color = color_unet::Config::default();
        Self {
            image_size: color.image_size,
            detector: DetectionNetwork::Resnet18,
            attention: Attention::Resnet,
            point: 3,
            input: Input::Rgb,
            width: 64,
            epochs: 100,
            batch: 16,
            lr: Choice::Word("auto".into()),
            class_aware: false,
            positive_share: 0.0,
            weights: String::new(),
            rows: ["none", "direct", "mobilenet", "resnet"].map(String::from).to_vec(),
            points: (1..=POINTS).collect(),
            color_width: color.width,
            color_epochs: color.epochs,
            color_lr: color.lr,
            color_patience: color.patience,
            fancy_pca: color.fancy_pca,
            color_dropout: color.dropout,
            map_scale: color.map_scale,
        }
    }
}

impl Config {
    /// Size of the images.
    pub fn image(&self) -> ImageSpec {
        ImageSpec { height: self.image_size, width: self.image_size, channels: 3 }
    }

    /// Learning rate: the paper's 1e-4, for VGG 1e-5, unless another is set.
    pub fn learning_rate(&self) -> f64 {
        self.lr.fixed().unwrap_or(if self.detector.is_vgg() { 1e-5 } else { 1e-4 })
    }

    /// Settings of the colour network.
    pub fn color(&self) -> color_unet::Config {
        color_unet::Config {
            image_size: self.image_size,
            width: self.color_width,
            epochs: self.color_epochs,
            batch: self.batch,
            lr: self.color_lr,
            patience: self.color_patience,
            fancy_pca: self.fancy_pca,
            dropout: self.color_dropout,
            map_scale: self.map_scale,
            ..color_unet::Config::default()
        }
    }

    /// The same settings as a row of the cross-validation table asks for, and whether it sweeps the
    /// attention point. Rows are named by where attention comes from, by the input, or by a network.
    ///
    /// # Errors
    /// For a name that is none of these.
    pub fn row(&self, name: &str) -> Result<(Self, bool)> {
        let plain = Self { attention: Attention::None, input: Input::Rgb, ..self.clone() };
        let with = |attention| Ok((Self { attention, ..plain.clone() }, true));
        let seeing = |input| Ok((Self { input, ..plain.clone() }, false));
        let by = |detector| Ok((Self { detector, weights: String::new(), ..plain.clone() }, false));
        match name {
            "none" => Ok((plain, false)),
            "direct" => with(Attention::Direct),
            "mobilenet" => with(Attention::Mobilenet),
            "resnet" => with(Attention::Resnet),
            "map" => seeing(Input::Map),
            "rgb+map" => seeing(Input::RgbMap),
            "attended" => seeing(Input::Attended),
            "resnet50" => by(DetectionNetwork::Resnet50),
            "vgg16" => by(DetectionNetwork::Vgg16),
            "vgg19" => by(DetectionNetwork::Vgg19),
            "cnn" => by(DetectionNetwork::Cnn),
            other => Err(hotad_engine::Error::Config(format!(
                "setting rows: {other:?} is no row; known are none, direct, mobilenet, resnet, map, rgb+map, attended, \
                 resnet50, vgg16, vgg19, cnn"
            ))),
        }
    }
}

impl Settings for Config {
    const DOCS: &'static [(&'static str, &'static str)] = &[
        ("image_size", "rows and columns the images are brought to: 32, 64, 128, 256 or a larger multiple of 256"),
        ("detector", "network that decides: \"resnet18\", \"vgg16\", \"resnet50\", \"vgg19\" or \"cnn\""),
        (
            "attention",
            "where attention comes from: \"resnet\" or \"mobilenet\" (attention networks), \"direct\" (the map itself) or \"none\"",
        ),
        (
            "point",
            "attention point, 1 (largest map) to 5; the best one differs between data sets (train --cv sweeps it)",
        ),
        ("input", "what the detector sees: \"rgb\", \"map\", \"rgb+map\" or \"attended\" (the image under the map)"),
        ("width", "channels of the first stage of the detector and of the ResNet-based attention network (paper: 64)"),
        ("epochs", "epochs of detector and attention network"),
        ("batch", "images of one step"),
        ("lr", "learning rate (Adam), or \"auto\": 1e-4, for VGG 1e-5"),
        ("class_aware", "whether every batch has as many defective images as normal ones"),
        (
            "positive_share",
            "share of defective images among all learned from, by leaving some out (section 4-4); 0 takes all",
        ),
        ("weights", "safetensors file with torchvision's weights for the detector; \"\" for a random start"),
        (
            "rows",
            "train --cv: rows of the table, of none, direct, mobilenet, resnet, map, rgb+map, attended, resnet50, vgg16, vgg19, cnn",
        ),
        ("points", "train --cv: attention points that are swept"),
        ("color_width", "channels of the colour network after its first convolution (paper: 64)"),
        ("color_epochs", "most epochs of the colour network"),
        ("color_lr", "learning rate of the colour network (Adam; paper: 1e-3)"),
        (
            "color_patience",
            "epochs of the colour network without a lower validation loss before stopping; 0 never stops early",
        ),
        ("fancy_pca", "deviation of the colour network's augmentation, as a share of the colours' own; 0 for none"),
        ("color_dropout", "dropout of the colour network (the public code: 0.5; paper: none)"),
        ("map_scale", "\"fixed\" (delta E / 100, at most 1) or \"image\" (divided by the largest value of each image)"),
    ];

    fn check(&self) -> Result<()> {
        self.color().check()?;
        require((1..=POINTS).contains(&self.point), "point", self.point, "1 to 5")?;
        let single = self.attention == Attention::None || self.input == Input::Rgb;
        require(single, "input", format!("{:?}", self.input), "\"rgb\" where there is attention")?;
        require((4..=256).contains(&self.width), "width", self.width, "4 to 256")?;
        check_epochs("epochs", self.epochs)?;
        self.lr.check("lr", "above 0, below 1, or \"auto\"", |v| v > 0.0 && v < 1.0)?;
        let share = self.positive_share;
        require((0.0..1.0).contains(&share), "positive_share", share, "0 or more, below 1")?;
        let own = self.weights.is_empty() || (self.width == 64 && self.detector != DetectionNetwork::Cnn);
        require(own, "weights", &self.weights, "networks of torchvision, width 64")?;
        let points = format!("{:?}", self.points);
        let known = self.points.iter().all(|p| (1..=POINTS).contains(p)) && !self.points.is_empty();
        require(known, "points", points, "a list of 1 to 5")?;
        require(!self.rows.is_empty(), "rows", "[]", "at least one row")?;
        self.rows.iter().try_for_each(|row| self.row(row).map(drop))
    }
}
