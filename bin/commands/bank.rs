//! `hotad bank`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::data::prepare::file_sha256;
use hotad_engine::device::Device;
use hotad_engine::{Error, Result, interrupt};
use hotad_models::METHODS;
use hotad_models::detector::{EditableBank, entry_name};
use hotad_models::jobs::{lock_model, save_changed};
use hotad_models::method::names;
use hotad_models::model::Model;

use crate::args::{BankAction, BankAddArgs, BankArgs, BankRemoveArgs, Common, Shared};
use crate::{OK, output};

/// The bank of a model, or an error that names the method.
fn bank<'a>(model: &'a mut Model, path: &Path) -> Result<&'a mut dyn EditableBank> {
    let method = model.method;
    let reason = format!("a {method} model has no memory bank; this works on {}", names(METHODS, |m| m.bank));
    model.detector.as_bank().ok_or(Error::Model { path: path.into(), reason })
}

/// What a changed bank calls for.
const ANEW: &str = "thresholds are as they were (hotad calibrate finds them anew)";

/// Changes or lists a bank. Thresholds stay as they were calibrated.
pub fn run(args: &BankArgs) -> Result<u8> {
    match &args.action {
        BankAction::List { model: path } => {
            let mut model = Model::load(path, &Device::CPU)?;
            for name in bank(&mut model, path)?.entries() {
                output::line(name)?;
            }
        }
        BankAction::Add(a) => add(&a.own, &a.shared.common()?)?,
        BankAction::Remove(a) => remove(&a.own, &a.shared.common()?)?,
    }
    Ok(OK)
}

/// The images whose content is new, in order, and what is to be remembered of them: SHA-256 and name.
fn new_images(
    args: &BankAddArgs,
    known: &BTreeMap<String, String>,
) -> Result<(Vec<PathBuf>, BTreeMap<String, String>)> {
    let (mut images, mut hashes) = (Vec::new(), BTreeMap::new());
    for (path, _) in output::collect_images(&args.paths)? {
        let hash = file_sha256(&path)?;
        match known.get(&hash).or(hashes.get(&hash)) {
            Some(_) if args.skip_known => {}
            Some(name) => {
                let reason = format!("was added before, as {name:?}; leave it out, or --skip-known");
                return Err(Error::Image { path, reason });
            }
            None => {
                hashes.insert(hash, entry_name(&path));
                images.push(path);
            }
        }
    }
    Ok((images, hashes))
}

fn add(args: &BankAddArgs, common: &Common) -> Result<()> {
    let path = &args.model;
    let _lock = lock_model(path, &common.terminal)?;
    let mut model = common.model(path, &args.trust)?;
    let (spec, roi) = (model.detector.image(), model.roi.clone());
    bank(&mut model, path)?;
    let (images, hashes) = new_images(args, &model.provenance.added_images)?;
    let editable = bank(&mut model, path)?;
    for_all(&Images::new(ImageFiles::new(&images, roi.as_ref()), spec), common.score_batch(), |batch| {
        interrupt::check()?;
        let names: Vec<String> = batch.files.iter().map(|file| entry_name(&file.path)).collect();
        editable.add(&batch.images, &names)
    })?;
    let total = editable.entries().len();
    if !images.is_empty() {
        model.provenance.added_images.extend(hashes);
        save_changed(&model, path, &common.terminal)?;
    }
    common.say(&format!("added {} images; the bank holds {total}; {ANEW}", images.len()));
    Ok(())
}

fn remove(args: &BankRemoveArgs, common: &Common) -> Result<()> {
    let BankRemoveArgs { model: path, trust, names } = args;
    let _lock = lock_model(path, &common.terminal)?;
    let mut model = common.model(path, trust)?;
    let editable = bank(&mut model, path)?;
    if let Some(name) = names.iter().find(|n| !editable.entries().contains(n)) {
        return Err(Error::Config(format!("{name:?} is not in the bank; hotad bank list prints what is")));
    }
    let removed = editable.remove(names)?;
    let total = editable.entries().len();
    model.provenance.added_images.retain(|_, name| !names.contains(name));
    save_changed(&model, path, &common.terminal)?;
    common.say(&format!("removed {removed} images; the bank holds {total}; {ANEW}"));
    Ok(())
}
