//! `hotad backbone`.

use std::path::{Path, PathBuf};

use hotad_engine::{Error, Result};
use hotad_models::features::backbone::{BackboneFile, Network, installed, shipped};
use serde_json::{Value, json};

use crate::OK;
use crate::args::{BackboneAction, BackboneArgs, BackboneImportArgs, Common, Shared};
use crate::continued::Continued;
use crate::output;

/// Imports, lists or describes backbones.
pub fn run(args: &BackboneArgs) -> Result<u8> {
    match &args.action {
        BackboneAction::Import(a) => import(&a.own, &a.shared.common(Continued::Not)?),
        BackboneAction::List { json } => list(*json),
        BackboneAction::Info { backbone, json } => info(backbone, *json),
    }
}

/// The number of blocks up to a named one.
fn until(file: &BackboneFile, block: &str) -> Result<usize> {
    let cuts = file.network.trunk().cuts();
    let held = &cuts[..file.blocks];
    held.iter().position(|c| c == block).map(|i| i + 1).ok_or_else(|| {
        let name = file.network.facts().name;
        Error::Config(format!("--until {block}: {name} in this file has the blocks {}", held.join(", ")))
    })
}

fn import(args: &BackboneImportArgs, common: &Common) -> Result<u8> {
    let mut file = BackboneFile::open(&args.file)?;
    let name = file.network.facts().name;
    let blocks = match &args.until {
        Some(block) => until(&file, block)?,
        None => file.blocks,
    };
    file = file.until(blocks);
    let path = match &args.out {
        Some(path) => {
            output::result_file(path, output::begin(false, args.force))?;
            path.clone()
        }
        None if file.stands_for_another() => {
            let reason = format!(
                "a student with the layers of {name}, whose place it would take; use it where it is (--set backbone=FILE)"
            );
            return Err(Error::Model { path: args.file.clone(), reason });
        }
        None => {
            let path = installed::prepare(file.network)?;
            if !args.force {
                check_longer(&path, &file)?;
            }
            path
        }
    };
    file.write(&path, args.half)?;
    let (weights, last) = (count(&file), &file.network.trunk().cuts()[file.blocks - 1]);
    common.say(&format!("{name} up to {last}, {weights} weights: wrote {}", path.display()));
    if args.out.is_none() {
        common.say(&format!("--set backbone={name} takes it; backbone=auto takes the best that is installed"));
    }
    Ok(OK)
}

/// Fails where an installed backbone would be replaced by one that ends before it.
fn check_longer(path: &Path, file: &BackboneFile) -> Result<()> {
    let Some(installed) = path.is_file().then(|| BackboneFile::open(path).ok()).flatten() else { return Ok(()) };
    if installed.blocks <= file.blocks {
        return Ok(());
    }
    let (name, cuts) = (file.network.facts().name, file.network.trunk().cuts());
    let [held, new] = [installed.blocks, file.blocks].map(|blocks| &cuts[blocks - 1]);
    Err(Error::Config(format!("{name} is installed up to {held}, and this ends at {new}; --force replaces it")))
}

fn count(file: &BackboneFile) -> usize {
    file.tensors.values().map(|t| t.len()).sum()
}

fn list(as_json: bool) -> Result<u8> {
    let installed = installed::list();
    let path = |network: Network| installed.iter().find(|(n, _)| *n == network).map(|(_, path)| path);
    if as_json {
        let entry = |n: Network| json!({"name": n.facts().name, "path": path(n).map(|p| p.to_string_lossy()), "source": n.facts().source});
        output::line(&Value::from_iter(Network::all().map(entry)).to_string())?;
        return Ok(OK);
    }
    for network in Network::all() {
        let facts = network.facts();
        let state = match path(network) {
            Some(path) => format!("installed: {}", path.display()),
            None if facts.name == shipped::NAME => "part of hotad".into(),
            None => format!("not installed; weights: {}", facts.source),
        };
        output::line(&format!("{:20} {state}", facts.name))?;
    }
    Ok(OK)
}

fn info(backbone: &str, as_json: bool) -> Result<u8> {
    let found = installed::find(backbone);
    let (path, file) = match found {
        Err(_) if backbone == shipped::NAME => (PathBuf::from("part of hotad"), shipped::open()?),
        found => {
            let path = found?;
            let file = BackboneFile::open(&path)?;
            (path, file)
        }
    };
    let facts = file.network.facts();
    let cuts = &file.network.trunk().cuts()[..file.blocks];
    if as_json {
        let all = json!({
            "name": facts.name,
            "path": path.to_string_lossy(),
            "image_size": facts.size,
            "cuts": cuts,
            "usual": facts.usual,
            "weights": count(&file),
            "origin": file.origin,
        });
        output::line(&all.to_string())?;
        return Ok(OK);
    }
    describe(&path, &file, cuts)?;
    Ok(OK)
}

fn describe(path: &Path, file: &BackboneFile, cuts: &[String]) -> Result<()> {
    let facts = file.network.facts();
    output::line(&format!("network      {}", facts.name))?;
    output::line(&format!("file         {}", path.display()))?;
    output::line(&format!("images       {0}x{0}, RGB", facts.size))?;
    output::line(&format!("weights      {}", count(file)))?;
    output::line(&format!("layers       {}", cuts.join(", ")))?;
    output::line(&format!("usually cut  {}", facts.usual.join(", ")))?;
    if let Some(distilled) = file.origin.as_ref().and_then(|o| o.distilled.as_ref()) {
        output::line(&format!(
            "distilled    {} steps of {} views of {2}x{2} pixels, on {3} images",
            distilled.steps, distilled.batch, distilled.crop, distilled.images
        ))?;
    }
    if let Some(origin) = &file.origin {
        output::line(&format!(
            "made from    {} ({}), sha256 {}",
            origin.imported.escape_debug(),
            origin.file.escape_debug(),
            origin.sha256
        ))?;
        if let Some(licence) = &origin.licence {
            output::line(&format!(
                "licence      {}",
                licence.lines().find(|l| !l.trim().is_empty()).unwrap_or("").trim().escape_debug()
            ))?;
        }
    }
    Ok(())
}
