//! `hotad bank`.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::data::prepare::file_sha256;
use hotad_engine::device::Device;
use hotad_engine::error::shown;
use hotad_engine::model_file::{EntryNames, Provenance};
use hotad_engine::{Error, Result, interrupt};
use hotad_models::detector::{EditableBank, entry_name, free_entry_name};
use hotad_models::jobs::{lock_model, save_changed};
use hotad_models::method::names;
use hotad_models::methods;
use hotad_models::model::Model;

use crate::args::{BankAction, BankAddArgs, BankArgs, BankRemoveArgs, Common, Shared};
use crate::continued::Continued;
use crate::{OK, output};

/// The bank of a model, or an error that names the method.
fn bank<'a>(model: &'a mut Model, path: &Path) -> Result<&'a mut dyn EditableBank> {
    let method = model.method;
    let reason = format!("a {method} model has no memory bank; this works on {}", names(methods(), |m| m.bank));
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
        BankAction::Add(a) => add(&a.own, &a.shared.common(Continued::Not)?)?,
        BankAction::Remove(a) => remove(&a.own, &a.shared.common(Continued::Not)?)?,
    }
    Ok(OK)
}

/// Images to add, in order.
#[derive(Default)]
struct NewImages {
    paths: Vec<PathBuf>,
    /// Name of each as an entry.
    names: Vec<String>,
    /// What is to be remembered: SHA-256 and name.
    hashes: BTreeMap<String, String>,
}

impl NewImages {
    /// Those whose content is in no bank with these entries. Another image of a name that is taken goes by a longer one.
    fn of(args: &BankAddArgs, provenance: &Provenance, entries: &[String]) -> Result<Self> {
        let (mut new, mut taken) = (Self::default(), entries.iter().cloned().collect::<HashSet<_>>());
        let found = output::collect_images(&args.paths)?;
        if found.is_empty() {
            let reason = "no images found; expected PNG, JPEG, BMP or TIFF files".into();
            return Err(Error::Data { path: args.paths.first().cloned().unwrap_or_default(), reason });
        }
        for (path, _) in found {
            let hash = file_sha256(&path)?;
            let of_training = provenance.bank_images.get(&hash).and_then(|names| names.0.first());
            let since = [&provenance.added_images, &new.hashes];
            match of_training.or_else(|| since.iter().find_map(|names| names.get(&hash))) {
                Some(_) if args.skip_known => continue,
                Some(name) => {
                    let reason = format!("is in the bank, as {name:?}; leave it out, or --skip-known");
                    return Err(Error::Image { path, reason });
                }
                None => {}
            }
            let Some(name) = free_entry_name(&path, &taken) else {
                let reason = "another image of this path is in the bank; hotad bank remove takes that out".into();
                return Err(Error::Image { path, reason });
            };
            if name != entry_name(&path) {
                let usual = entry_name(&path);
                output::warn(&format!("{usual:?} is another image in the bank; {} is added as {name:?}", shown(&path)));
            }
            taken.insert(name.clone());
            new.hashes.insert(hash, name.clone());
            new.names.push(name);
            new.paths.push(path);
        }
        Ok(new)
    }
}

fn add(args: &BankAddArgs, common: &Common) -> Result<()> {
    let path = &args.model;
    let _lock = lock_model(path, &common.terminal)?;
    let mut model = common.model(path, &args.trust)?;
    let (spec, roi) = (model.detector.image(), model.roi.clone());
    let provenance = model.provenance.clone();
    let editable = bank(&mut model, path)?;
    let NewImages { paths: images, names, hashes } = NewImages::of(args, &provenance, editable.entries())?;
    for_all(&Images::new(ImageFiles::new(&images, roi.as_ref()), spec), common.score_batch(), |batch| {
        interrupt::check()?;
        let names: Vec<String> = batch.files.iter().map(|file| names[file.index].clone()).collect();
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
    let Provenance { added_images, bank_images, .. } = &mut model.provenance;
    added_images.retain(|_, name| !names.contains(name));
    bank_images.values_mut().for_each(|EntryNames(of)| of.retain(|name| !names.contains(name)));
    bank_images.retain(|_, of| !of.0.is_empty());
    save_changed(&model, path, &common.terminal)?;
    common.say(&format!("removed {removed} images; the bank holds {total}; {ANEW}"));
    Ok(())
}
