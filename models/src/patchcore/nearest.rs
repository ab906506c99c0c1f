//! Distances of patches to the bank, and what an image score is of them (PatchCore, Roth et al. 2022, section 3.3).

use hotad_engine::Result;
use hotad_engine::tensor::Tensor;
use hotad_kernels::device::Buffer;
use hotad_kernels::flat_bank::FlatBank;
use hotad_kernels::gather::gather;
use smallvec::SmallVec;

/// The nearest bank vectors of some queries, on their device.
pub struct Nearest {
    /// `[q][k]`.
    pub index: Buffer<u32>,
    /// `[q][k]`, Euclidean, ascending.
    pub distance: Buffer,
}

/// The `k` nearest of the bank's vectors to each query `[.., d]`.
///
/// # Errors
/// When lengths or devices do not fit, or `k` is larger than the bank.
pub fn nearest(query: &Tensor, bank: &FlatBank, k: usize) -> Result<Nearest> {
    let (device, found) = (query.device(), query.len() / bank.dimension() * k);
    let (mut index, mut distance) = (device.alloc::<u32>(found)?, device.alloc(found)?);
    bank.nearest(query.view(), k, &mut index, &mut distance)?;
    Ok(Nearest { index, distance })
}

/// A score for each image, on the stack for a few.
pub type ImageScores = SmallVec<[f32; 16]>;

/// Numbers of patches or vectors, on the stack for sixteen images of sixteen neighbours.
type Numbers = SmallVec<[usize; 256]>;

/// The most anomalous patch of an image.
struct Worst {
    /// Its number among all patches.
    patch: usize,
    /// Its distance S to its nearest bank vector M.
    distance: f32,
    /// The number of M.
    nearest: usize,
}

/// Image scores `w S` (equation 7): S is the largest distance of an image, of patch Q to bank vector M, and
/// `w = 1 - exp |Q - M| / sum over n of exp |Q - n|`, n the `b` bank vectors nearest to M, M among them: a patch in a sparse
/// region of the bank counts more. With `b` = 1 the score is S. Queries are `[images, patches, d]`, `distance` and `index` those
/// of their nearest bank vectors.
///
/// # Errors
/// When lengths do not fit.
pub fn reweighted(query: &Tensor, bank: &FlatBank, distance: &[f32], index: &[u32], b: usize) -> Result<ImageScores> {
    let (images, d) = (query.shape()[0], bank.dimension());
    let worst = worst(distance, index, images);
    let b = b.min(bank.len());
    if b <= 1 {
        return Ok(worst.iter().map(|w| w.distance).collect());
    }
    let hit = bank.select(&worst.iter().map(|w| w.nearest).collect::<Numbers>())?;
    let hit = Tensor::from_buffer(Buffer::Host(hit), &[images, d])?.to(&query.device())?;
    let neighbours = nearest(&hit, bank, b)?.index;
    let around = bank.select(&neighbours.values()?.iter().map(|i| *i as usize).collect::<Numbers>())?;
    let own = gather(query.view(), d, &worst.iter().map(|w| w.patch).collect::<Numbers>())?.into_host()?;
    let score = |(worst, (own, around)): (&Worst, (&[f32], &[f32]))| {
        let s = f64::from(worst.distance);
        // Divided by exp S above and below, so that nothing overflows.
        let sum: f64 = around.chunks_exact(d).map(|n| (euclidean(own, n) - s).exp()).sum();
        ((1.0 - 1.0 / sum) * s) as f32
    };
    Ok(worst.iter().zip(own.chunks_exact(d).zip(around.chunks_exact(b * d))).map(score).collect())
}

fn worst(distance: &[f32], index: &[u32], images: usize) -> SmallVec<[Worst; 16]> {
    let patches = distance.len() / images.max(1);
    let of_image = |i: usize| {
        let own = i * patches..(i + 1) * patches;
        // The first of equals; an image has patches.
        let at = own.reduce(|a, b| if distance[b] > distance[a] { b } else { a }).expect("an image has patches");
        Worst { patch: at, distance: distance[at], nearest: index[at] as usize }
    };
    (0..images).map(of_image).collect()
}

fn euclidean(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}
