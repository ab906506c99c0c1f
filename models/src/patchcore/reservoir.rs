//! The patches that a coreset is chosen from.

use hotad_engine::{Result, random};

use super::config::Config;
use crate::features::Embedding;
use crate::fit::FitContext;

/// Patches of all images as they are, then as they are changed; a sample of them where they do not fit, of each part as many.
pub struct Reservoir {
    pub vectors: Vec<f32>,
    /// Number of the image of each.
    pub owners: Vec<u32>,
    /// How many are of images as they are.
    pub unchanged: usize,
}

/// How many to take of each group, `held` in all where there are so many: equal shares, small groups whole.
fn quotas(sizes: &[usize], held: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|group| sizes[*group]);
    let (mut quotas, mut left) = (vec![0; sizes.len()], held);
    for (taken, group) in order.iter().enumerate() {
        quotas[*group] = sizes[*group].min(left.div_ceil(sizes.len() - taken));
        left -= quotas[*group];
    }
    quotas
}

/// Numbers of patches of some views of images of `each` patches, `held` at most, drawn evenly from each group of images; ascending.
fn drawn(groups: &[usize], (views, each): (usize, usize), held: usize, seed: u64) -> Vec<usize> {
    let of_images = groups.len() * each;
    let group = |patch: usize| groups[patch % of_images / each];
    let mut sizes = vec![0; groups.iter().max().map_or(0, |most| most + 1)];
    groups.iter().for_each(|group| sizes[*group] += views * each);
    let mut quotas = quotas(&sizes, held);
    let mut chosen = random::shuffled(views * of_images, seed, "reservoir", 0);
    chosen.retain(|patch| {
        let quota = &mut quotas[group(*patch)];
        let wanted = *quota > 0;
        *quota -= usize::from(wanted);
        wanted
    });
    chosen.sort_unstable();
    chosen
}

impl Reservoir {
    /// Of the context's normal images.
    ///
    /// # Errors
    /// When an image cannot be read, when interrupted, or the device is out of memory.
    pub fn fill(embedding: &Embedding, config: &Config, context: &FitContext) -> Result<Self> {
        let ((h, w), d, images) = (embedding.grid(), embedding.dimensions(), context.train.len());
        let views = (config.augmentation.views(), h * w);
        let chosen = drawn(&context.groups[..images], views, config.held(d), context.seed);
        let held = chosen.len();
        let unchanged = chosen.partition_point(|at| *at < images * h * w);
        let mut reservoir = Self { vectors: Vec::with_capacity(held * d), owners: Vec::with_capacity(held), unchanged };
        let (mut next, mut seen) = (chosen.into_iter().peekable(), 0);
        let change = config.augmentation.drawn_by(context.seed);
        embedding.for_each_augmented(context.train, change, |batch| {
            let values = batch.values()?;
            let end = seen + values.len() / d;
            while let Some(at) = next.next_if(|at| *at < end) {
                reservoir.vectors.extend(&values[(at - seen) * d..(at - seen + 1) * d]);
                reservoir.owners.push((at / (h * w) % images) as u32);
            }
            seen = end;
            Ok(())
        })?;
        Ok(reservoir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_the_same_share_where_they_have_so_much() {
        assert_eq!(quotas(&[10, 10, 10], 12), [4, 4, 4]);
        assert_eq!(quotas(&[2, 100, 30], 42), [2, 20, 20]);
        assert_eq!(quotas(&[5, 0, 5], 100), [5, 0, 5]);
        assert_eq!(quotas(&[4, 4, 4], 11), [4, 4, 3]);
        assert_eq!(quotas(&[1, 9, 1, 9], 3), [1, 1, 1, 0]);
        assert_eq!(quotas(&[], 3), [0; 0]);
    }

    #[test]
    fn a_part_with_many_photos_does_not_crowd_out_the_others() {
        // Twenty photos of the first part, one of each of three others, two views of six patches.
        let groups: Vec<usize> = std::iter::repeat_n(0, 20).chain(1..4).collect();
        let chosen = drawn(&groups, (2, 6), 40, 7);
        let count = |group| chosen.iter().filter(|patch| groups[**patch % (23 * 6) / 6] == group).count();
        assert_eq!([count(0), count(1), count(2), count(3)], [10; 4]);
        assert!(chosen.is_sorted() && chosen.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(drawn(&groups, (2, 6), 10_000, 7), (0..2 * 23 * 6).collect::<Vec<_>>());
        assert_ne!(chosen, drawn(&groups, (2, 6), 40, 8));
    }
}
