//! The maps of a network at the hints, on its way from the image, or each from the teacher's map before it.

use hotad_engine::Result;
use hotad_engine::tensor::{Tensor, Tensors};

use super::HintChoice;
use crate::networks::layer::{Layer, Weights};
use crate::networks::trunk::Trunk;

/// Which maps are compared.
pub enum Places {
    /// After each layer of so many leading blocks.
    Layers(usize),
    /// After some blocks, ascending.
    Blocks(Vec<usize>),
}

impl Places {
    /// Those of a choice, for a trunk that is cut at the given blocks.
    pub fn new(choice: HintChoice, trunk: &Trunk, cuts: &[usize]) -> Self {
        let blocks = cuts.last().map_or(0, |c| c + 1);
        match choice {
            HintChoice::Layers if (0..blocks).all(|b| trunk.chain(b).is_some()) => Self::Layers(blocks),
            HintChoice::Layers | HintChoice::Blocks => Self::Blocks((0..blocks).collect()),
            HintChoice::Cuts => Self::Blocks(cuts.to_vec()),
        }
    }

    /// The maps of standardised images; with a teacher's maps, what lies between two places begins at the teacher's.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn maps(
        &self,
        trunk: &Trunk,
        weights: &Weights,
        images: &Tensor,
        teacher: Option<&[Tensor]>,
    ) -> Result<Tensors> {
        let mut maps = Tensors::new();
        // What comes before the next place.
        let before = |maps: &[Tensor]| match (teacher, maps.len()) {
            (_, 0) => images.clone(),
            (Some(teacher), n) => teacher[n - 1].clone(),
            (None, n) => maps[n - 1].clone(),
        };
        match self {
            Self::Layers(blocks) => {
                for block in 0..*blocks {
                    let (input, layers) = (before(&maps), trunk.block(block));
                    let adds_input = trunk.chain(block) == Some(true);
                    for (i, layer) in layers.iter().enumerate() {
                        let residual = (adds_input && i + 1 == layers.len()).then_some(&input);
                        let y = weights.run(layer, &before(&maps), residual, None)?;
                        maps.push(y);
                    }
                }
            }
            Self::Blocks(blocks) => {
                let mut next = 0;
                for block in blocks {
                    let mut x = before(&maps);
                    for inner in next..=*block {
                        x = trunk.run(inner, weights, &x)?;
                    }
                    maps.push(x);
                    next = block + 1;
                }
            }
        }
        Ok(maps)
    }

    /// The layer that gives each map, and whether its block's input is added to it.
    pub fn layers<'a>(&self, trunk: &'a Trunk) -> Vec<(&'a Layer, bool)> {
        let last = |block: usize| {
            let layers = trunk.block(block);
            layers.last().map(|layer| (*layer, trunk.chain(block) == Some(true)))
        };
        match self {
            Self::Layers(blocks) => {
                let inner = |block: usize| {
                    let mut layers: Vec<_> = trunk.block(block).into_iter().map(|layer| (layer, false)).collect();
                    layers.pop();
                    layers.into_iter().chain(last(block))
                };
                (0..*blocks).flat_map(inner).collect()
            }
            Self::Blocks(blocks) => blocks.iter().filter_map(|block| last(*block)).collect(),
        }
    }

    /// Blocks that are run.
    pub fn blocks(&self) -> usize {
        match self {
            Self::Layers(blocks) => *blocks,
            Self::Blocks(blocks) => blocks.last().map_or(0, |b| b + 1),
        }
    }
}
