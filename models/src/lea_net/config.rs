//! Settings of LEA-Net.

use hotad_engine::Result;
use hotad_engine::data::picture::ImageSpec;
use serde::{Deserialize, Serialize};

use crate::color_unet;
use crate::color_unet::{MapScale, SIZES, is_size};
use crate::config::{BATCH, Choice, EPOCHS, Interval, RATE, SHARE, Settings, require, settings};
use crate::fit::stage;
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

settings! {
    /// Settings.
    pub struct Config {
        /// rows and columns the images are brought to
        image_size: usize = 256, allowed SIZES if |v| is_size(*v), for Shapes;
        /// network that decides: "resnet18", "vgg16", "resnet50", "vgg19" or "cnn"
        detector: DetectionNetwork = DetectionNetwork::Resnet18, for Shapes;
        /// where attention comes from: "resnet" or "mobilenet" (attention networks), "direct" (the map itself) or "none"
        attention: Attention = Attention::Resnet, for Shapes;
        /// attention point, from 1 (largest map) on; the best one differs between data sets (cross-validation sweeps it)
        point: usize = 3, in 1..=POINTS;
        /// what the detector sees: "rgb", "map", "rgb+map" or "attended" (the image under the map)
        input: Input = Input::Rgb, for Shapes;
        /// channels of the first stage of the detector and of the ResNet-based attention network (paper: 64)
        width: usize = 64, in 4..=256, for Shapes;
        /// epochs of detector and attention network
        epochs: usize = 100, in EPOCHS, for Length;
        /// images of one step
        batch: usize = 16, in BATCH;
        /// learning rate (Adam), or "auto": 1e-4, for VGG 1e-5
        lr: Choice = Choice::auto(), allowed "above 0, below 1, or \"auto\"" if |v| v.is_auto_or(RATE);
        /// whether every batch has as many defective images as normal ones
        class_aware: bool = false;
        /// share of defective images among all learned from, by leaving some out (section 4-4); 0 takes all
        positive_share: f64 = 0.0, in Interval::RightOpen(0.0, 1.0);
        /// file with torchvision's weights for the detector; "" for a random start; where it sees the map, the first filters are
        /// summed over colours (input = "map") or get a channel of zeros ("rgb+map")
        weights: String = String::new();
        /// in cross-validation: rows of the table, of none, direct, mobilenet, resnet, map, rgb+map, attended, resnet50, vgg16, vgg19, cnn
        rows: Vec<String> = ["none", "direct", "mobilenet", "resnet"].map(String::from).to_vec();
        /// in cross-validation: attention points that are swept
        points: Vec<usize> = (1..=POINTS).collect();
        /// in cross-validation: trainings of each network, with seeds counted on from that of the run; metrics are means over them
        seeds: usize = 1, in 1..=100;
        /// trained model whose anomaly maps take the place of the colour network's; "" for that
        guide: String = String::new();
        /// parts of the images for cross-fitted maps: those of a part come from a colour network that has learned from the normal
        /// images of the others; 1 for the maps of the one colour network, too clean for what it has learned from
        map_parts: usize = 2, in 1..=stage::COLOUR_PARTS.len();
        /// channels of the colour network after its first convolution (paper: 64)
        color_width: usize = 64, in color_unet::WIDTH, for Shapes;
        /// most epochs of the colour network
        color_epochs: usize = 500, in EPOCHS, for Length;
        /// learning rate of the colour network (Adam; paper: 1e-3)
        color_lr: f64 = 1e-3, in RATE;
        /// epochs of the colour network without a lower validation loss before stopping; 0 never stops early
        color_patience: usize = 20;
        /// deviation of the colour network's augmentation, as a share of the colours' own; 0 for none
        fancy_pca: f64 = 0.08, in SHARE;
        /// dropout of the colour network (the public code: 0.5; paper: none)
        color_dropout: f64 = 0.0, in color_unet::DROPOUT;
        /// maps are colour differences divided by: "fixed", their 99.9 % quantile over held-out normal images, or "image",
        /// the largest value of each image; networks see 1 at most
        map_scale: MapScale = MapScale::Fixed;
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
    pub fn colour(&self) -> color_unet::Config {
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

    /// What the paper's tables call these networks.
    pub fn title(&self) -> String {
        format!("{}{}{}", self.detector.title(), self.input.title(), self.attention.title())
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
    fn check_together(&self) -> Result<()> {
        let single = self.attention == Attention::None || self.input == Input::Rgb;
        require(single, "input", format!("{:?}", self.input), "\"rgb\" where there is attention")?;
        let own = self.weights.is_empty() || (self.width == 64 && self.detector != DetectionNetwork::Cnn);
        require(own, "weights", &self.weights, "networks of torchvision, width 64")?;
        let points = format!("{:?}", self.points);
        let known = self.points.iter().all(|p| (1..=POINTS).contains(p)) && !self.points.is_empty();
        require(known, "points", points, "a list of 1 to 5")?;
        require(!self.rows.is_empty(), "rows", "[]", "at least one row")?;
        self.rows.iter().try_for_each(|row| self.row(row).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colour_network_is_by_default_that_of_color_unet() {
        assert_eq!(Config::default().colour(), color_unet::Config::default());
    }
}
