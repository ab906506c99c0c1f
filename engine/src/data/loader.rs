//! Batches, decoded ahead on a thread of their own. Memory: three batches, whatever the data set.

use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

use super::picture::{ImageSpec, Picture};
use crate::error::Result;
use crate::tensor::Tensor;

/// Batches that wait decoded while one is worked on.
const AHEAD: usize = 2;

/// Some images of a data set.
pub struct Batch {
    /// `[n, height, width, channels]`, values in 0..1.
    pub images: Tensor,
    /// Which of the loader's paths these are.
    pub indices: Vec<usize>,
    /// Rows and columns of each file before resizing.
    pub original_sizes: Vec<(usize, usize)>,
}

fn load(paths: &[PathBuf], indices: &[usize], spec: ImageSpec) -> Result<Batch> {
    let mut values = Vec::with_capacity(indices.len() * spec.len());
    let mut original_sizes = Vec::with_capacity(indices.len());
    for i in indices {
        let picture = Picture::read(&paths[*i])?;
        original_sizes.push((picture.height, picture.width));
        values.extend(picture.fit(spec)?.values);
    }
    let images = Tensor::new(values, &[indices.len(), spec.height, spec.width, spec.channels])?;
    Ok(Batch { images, indices: indices.to_vec(), original_sizes })
}

/// Calls `work` with the images of `paths` in the given order, `batch` at a time.
///
/// # Errors
/// The first error of decoding or of `work`.
pub fn for_each_batch(
    paths: &[PathBuf],
    order: &[usize],
    batch: usize,
    spec: ImageSpec,
    mut work: impl FnMut(Batch) -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(AHEAD);
        scope.spawn(move || {
            for indices in order.chunks(batch.max(1)) {
                let loaded = load(paths, indices, spec);
                let failed = loaded.is_err();
                if sender.send(loaded).is_err() || failed {
                    break;
                }
            }
        });
        for loaded in receiver {
            work(loaded?)?;
        }
        Ok(())
    })
}
