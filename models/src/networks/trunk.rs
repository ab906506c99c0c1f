//! A convolutional network without its classifier: named blocks in order, after each of which its map can be taken.

use hotad_engine::Result;
use hotad_engine::device::Device;
use hotad_engine::ops::max_pool2d;
use hotad_engine::params::State;
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_kernels::pool::PoolOptions;

use super::layer::{Layer, Prepared, Weights, on_host};
use crate::export::{GraphValue, Writer};

/// Layers that are run together.
pub trait Block: Send + Sync {
    /// Its layers, in the order of their weights.
    fn layers(&self) -> Vec<&Layer>;

    /// Where its layers simply follow each other: whether its input is added to the output of the last one.
    fn chain(&self) -> Option<bool> {
        None
    }

    /// The map `[n, rows, columns, channels]` after the block, multiplied by 1 + an attention map of its size.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn run(&self, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor>;

    /// [`Block::run`] as nodes of a graph.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    fn export(&self, to: &Writer, x: &GraphValue, attention: Option<&GraphValue>) -> Result<GraphValue>;

    /// Lays its weights out for inference. `state` is on the host.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    fn prepare(&self, state: &State, device: &Device, prepared: &mut Prepared) -> Result<()> {
        self.layers().into_iter().try_for_each(|layer| prepared.add(layer, state, device))
    }
}

impl Block for Layer {
    fn layers(&self) -> Vec<&Layer> {
        vec![self]
    }

    fn chain(&self) -> Option<bool> {
        Some(false)
    }

    fn run(&self, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        weights.run(self, x, None, attention)
    }

    fn export(&self, to: &Writer, x: &GraphValue, attention: Option<&GraphValue>) -> Result<GraphValue> {
        to.run(self, x, None, attention)
    }
}

/// A block after a max pooling.
pub struct Pooled<B> {
    /// The pooling.
    pub window: PoolOptions,
    /// What follows.
    pub block: B,
}

impl<B: Block> Block for Pooled<B> {
    fn layers(&self) -> Vec<&Layer> {
        self.block.layers()
    }

    fn run(&self, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        self.block.run(weights, &max_pool2d(x, self.window)?, attention)
    }

    fn export(&self, to: &Writer, x: &GraphValue, attention: Option<&GraphValue>) -> Result<GraphValue> {
        self.block.export(to, &x.max_pooled(self.window)?, attention)
    }
}

/// Named blocks in order.
pub struct Trunk {
    blocks: Vec<(String, Box<dyn Block>)>,
}

impl Trunk {
    /// From its blocks, each with the name of its cut.
    pub fn new(blocks: Vec<(String, Box<dyn Block>)>) -> Self {
        Self { blocks }
    }

    /// Names of the cuts, from the image inwards.
    pub fn cuts(&self) -> Vec<String> {
        self.blocks.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The layers of block `index`.
    pub fn block(&self, index: usize) -> Vec<&Layer> {
        self.blocks[index].1.layers()
    }

    /// The layers of the first `blocks` blocks.
    pub fn layers(&self, blocks: usize) -> Vec<&Layer> {
        self.blocks.iter().take(blocks).flat_map(|(_, block)| block.layers()).collect()
    }

    /// Of block `index`, [`Block::chain`].
    pub fn chain(&self, index: usize) -> Option<bool> {
        self.blocks[index].1.chain()
    }

    /// The map after block `index` of the map before it, or of standardised images for the first.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn run(&self, index: usize, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        self.blocks[index].1.run(weights, x, None)
    }

    /// The weights of the first `blocks` blocks, laid out for inference.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn prepared(&self, blocks: usize, state: &State, device: &Device) -> Result<Prepared> {
        let (mut prepared, state) = (Prepared::default(), on_host(state)?);
        for (_, block) in self.blocks.iter().take(blocks) {
            block.prepare(&state, device, &mut prepared)?;
        }
        Ok(prepared)
    }

    /// The maps after some blocks, given by ascending numbers, of standardised images.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn maps(&self, weights: &Weights, images: &Tensor, cuts: &[usize]) -> Result<Tensors> {
        let last = cuts.iter().max().map_or(0, |c| c + 1);
        let (mut x, mut maps) = (images.clone(), Tensors::new());
        for (i, (_, block)) in self.blocks.iter().enumerate().take(last) {
            x = block.run(weights, &x, None)?;
            if cuts.contains(&i) {
                maps.push(x.clone());
            }
        }
        Ok(maps)
    }
    /// [`Trunk::maps`] as nodes of a graph.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    pub fn export(&self, to: &Writer, images: &GraphValue, cuts: &[usize]) -> Result<Vec<GraphValue>> {
        let last = cuts.iter().max().map_or(0, |c| c + 1);
        let mut maps = vec![images.clone()];
        for (_, block) in self.blocks.iter().take(last) {
            let map = block.export(to, &maps[maps.len() - 1], None)?;
            maps.push(map);
        }
        Ok(cuts.iter().map(|cut| maps[cut + 1].clone()).collect())
    }
}
