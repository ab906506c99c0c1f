//! Backbones that have been imported: one file each, named after its network, in hotad's data folder.

use std::path::{Path, PathBuf};

use hotad_engine::{AtPath, Error, Result};

use super::file::BackboneFile;
use super::network::{NETWORKS, Network};

/// hotad's data folder: `$HOTAD_HOME`, else a folder of that name where the platform keeps the data of programs
/// (`~/.local/share/hotad` on Linux).
///
/// # Errors
/// When neither is there.
pub fn home() -> Result<PathBuf> {
    match std::env::var_os("HOTAD_HOME").filter(|v| !v.is_empty()) {
        Some(path) => Ok(path.into()),
        None => dirs::data_dir().map(|d| d.join("hotad")).ok_or_else(|| {
            Error::Config("the home folder of this user is unknown; set HOTAD_HOME to a folder for backbones".into())
        }),
    }
}

/// Where the backbone of a network is kept.
///
/// # Errors
/// When there is no data folder.
pub fn place(network: Network) -> Result<PathBuf> {
    Ok(home()?.join("backbones").join(format!("{}.safetensors", network.facts().name)))
}

/// The networks that are installed, those with the best features first; none where there is no data folder.
pub fn list() -> Vec<(Network, PathBuf)> {
    let all = Network::all().filter_map(|n| Some((n, place(n).ok()?)));
    all.filter(|(_, path)| path.is_file()).collect()
}

/// The first of them that reaches its usual cuts. A smaller one than that which is part of the program has to be asked for.
///
/// # Errors
/// When a file is damaged.
pub fn best() -> Result<Option<(Network, PathBuf)>> {
    for (network, path) in list().into_iter().filter(|(network, _)| !network.is_reduced()) {
        let file = BackboneFile::open(&path)?;
        let cuts = network.trunk().cuts();
        if network.facts().usual.iter().all(|usual| cuts[..file.blocks].iter().any(|c| c == usual)) {
            return Ok(Some((network, path)));
        }
    }
    Ok(None)
}

/// A backbone by the name of its network, where it is installed, or by the path of a file.
///
/// # Errors
/// When it is neither; says what is installed.
pub fn find(name: &str) -> Result<PathBuf> {
    let network = Network::named(name);
    if let Some(path) = network.and_then(|n| place(n).ok()).filter(|path| path.is_file()) {
        return Ok(path);
    }
    if Path::new(name).exists() {
        return Ok(name.into());
    }
    if let Some(network) = network {
        let source = network.facts().source;
        return Err(Error::Config(format!(
            "backbone {name} is not installed: import its weights ({source}) with hotad backbone import FILE"
        )));
    }
    let installed: Vec<&str> = list().iter().map(|(n, _)| n.facts().name).collect();
    let installed = if installed.is_empty() { "none".into() } else { installed.join(", ") };
    let known: Vec<&str> = NETWORKS.iter().map(|f| f.name).collect();
    Err(Error::Config(format!(
        "backbone {name:?} is no file and no name of a network ({}); installed: {installed}",
        known.join(", ")
    )))
}

/// Makes the folder of installed backbones.
///
/// # Errors
/// I/O errors, with the path.
pub fn prepare(network: Network) -> Result<PathBuf> {
    let path = place(network)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).at(folder)?;
    }
    Ok(path)
}
