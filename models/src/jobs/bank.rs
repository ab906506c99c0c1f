//! The images of a training that are in the bank of its model.

use std::collections::BTreeMap;

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::model_file::EntryNames;
use hotad_engine::observer::Observer;
use hotad_engine::{Result, interrupt};

use super::{SCORE_BATCH, Selection};
use crate::detector::entry_names;
use crate::model::Model;

/// The images of a bank that is made of the normal images which are learned from: SHA-256 and names.
pub(super) fn entries_of(selection: &Selection) -> BTreeMap<String, EntryNames> {
    let mut entries = BTreeMap::new();
    insert(&mut entries, &selection.train_sha256, entry_names(&selection.train));
    entries
}

/// Puts the held-out images into the bank of a model whose thresholds have been found without them. From then on they count as
/// learned from: neither thresholds nor evaluation may use them.
///
/// # Errors
/// When an image cannot be read, or an interruption.
pub(super) fn add_holdout(model: &mut Model, selection: &Selection, observer: &dyn Observer) -> Result<()> {
    let (image, roi) = (model.detector.image(), model.roi.clone());
    let Some(bank) = model.detector.as_bank() else { return Ok(()) };
    observer.say(&format!("adding {} held-out images to the memory bank", selection.holdout.len()));
    let names = entry_names(&[&selection.train[..], &selection.holdout].concat()).split_off(selection.train.len());
    for_all(&Images::new(ImageFiles::new(&selection.holdout, roi.as_ref()), image), SCORE_BATCH, |batch| {
        interrupt::check()?;
        let names: Vec<String> = batch.files.iter().map(|file| names[file.index].clone()).collect();
        bank.add(&batch.images, &names)
    })?;
    let provenance = &mut model.provenance;
    provenance.training_images += names.len();
    provenance.learned_images.extend_from_slice(&selection.holdout_sha256);
    provenance.learned_images.sort_unstable();
    provenance.learned_images.dedup();
    insert(&mut provenance.bank_images, &selection.holdout_sha256, names);
    Ok(())
}

fn insert(entries: &mut BTreeMap<String, EntryNames>, hashes: &[String], names: Vec<String>) {
    for (hash, name) in hashes.iter().zip(names) {
        entries.entry(hash.clone()).or_default().0.push(name);
    }
}
