//! Batches under batch normalisation. In a map of one pixel a batch of one image has one value for each channel; less its own
//! mean that is 0, whatever the image, and the running variance falls with each such batch.

use hotad_engine::observer::Observer;
use hotad_engine::{Error, Result};

/// The batches of a network with batch normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchNorms {
    /// Images of a batch.
    pub batch: usize,
    /// Pixels of the smallest map that is normalised.
    pub pixels: usize,
}

impl BatchNorms {
    /// Whether the last image of an epoch would be a batch of one value for each channel.
    fn leaves_one(&self, images: usize) -> bool {
        self.pixels == 1 && images % self.batch == 1
    }

    /// Says that one image is left out of each epoch, where it would be a batch by itself.
    ///
    /// # Errors
    /// When every batch has one value for each channel.
    pub fn check(&self, images: usize, observer: &dyn Observer) -> Result<()> {
        if self.pixels == 1 && (self.batch == 1 || images == 1) {
            let what =
                if images == 1 { "there is one image to learn from".into() } else { format!("batch = {}", self.batch) };
            return Err(Error::Config(format!(
                "batch normalisation has one value for each channel ({what}, the smallest map has one pixel), which becomes 0 \
                 whatever the image; set batch to 2 or more and learn from two images at least, or raise image_size"
            )));
        }
        if self.leaves_one(images) {
            observer.say(&format!(
                "each epoch leaves out one of {images} images, drawn by the seed: in batches of {} it would be alone, with one \
                 value for each channel to normalise",
                self.batch
            ));
        }
        Ok(())
    }

    /// The order of an epoch, without an image that would be a batch by itself.
    pub fn order(&self, mut order: Vec<usize>) -> Vec<usize> {
        if self.leaves_one(order.len()) {
            order.pop();
        }
        order
    }
}
