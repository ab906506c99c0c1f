//! `hotad bank`.

use std::path::Path;

use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::{Error, Result};
use hotad_models::detector::EditableBank;
use hotad_models::model::Model;
use hotad_models::prior::entry_name;

use crate::args::{BankAction, BankArgs, Common};
use crate::{OK, output};

/// The bank of a model, or an error that names the method.
fn bank<'a>(model: &'a mut Model, path: &Path) -> Result<&'a mut dyn EditableBank> {
    let method = model.detector.method();
    let reason = format!("a {method} model has no memory bank; this works on paedid and pae");
    model.detector.bank().ok_or(Error::Model { path: path.into(), reason })
}

/// Changes or lists a bank. Thresholds stay as they were calibrated.
pub fn run(args: &BankArgs, common: &Common) -> Result<u8> {
    match &args.action {
        BankAction::List { model: path } => {
            let mut model = Model::load(path, &common.device()?)?;
            for name in bank(&mut model, path)?.entries() {
                output::line(name)?;
            }
        }
        BankAction::Add { model: path, paths } => {
            let mut model = Model::load(path, &common.device()?)?;
            let spec = model.detector.image();
            let editable = bank(&mut model, path)?;
            let images: Vec<_> = output::collect_images(paths)?.into_iter().map(|(p, _)| p).collect();
            let order: Vec<usize> = (0..images.len()).collect();
            for_each_batch(&Images::new(&images, spec), &order, common.score_batch(), |batch| {
                let names: Vec<String> = batch.indices.iter().map(|i| entry_name(&images[*i])).collect();
                editable.add(&batch.images, &names)
            })?;
            let total = editable.entries().len();
            model.save(path)?;
            common.say(&format!("added {} images; the bank holds {total}", images.len()));
        }
        BankAction::Remove { model: path, names } => {
            let mut model = Model::load(path, &common.device()?)?;
            let editable = bank(&mut model, path)?;
            if let Some(name) = names.iter().find(|n| !editable.entries().contains(n)) {
                return Err(Error::Config(format!("{name:?} is not in the bank; hotad bank list prints what is")));
            }
            let removed = editable.remove(names)?;
            let total = editable.entries().len();
            model.save(path)?;
            common.say(&format!("removed {removed} images; the bank holds {total}"));
        }
    }
    Ok(OK)
}
