//! Files and lines that commands write: results on stdout, maps, overlays.

use std::io::Write;
use std::path::{Path, PathBuf};

use hotad_engine::atomic_file::check_writable;
use hotad_engine::data::collect;
use hotad_engine::data::prepare::hex;
use hotad_engine::error::shown;
use hotad_engine::{AtPath, Error, Result, atomic_file};
use hotad_kernels::KernelError;
use hotad_models::AnomalyMap;
use hotad_models::jobs::{Begin, Conflict, is_same_file};

use crate::memory;

/// Prints one line to stdout; a closed pipe comes back as an error, not a panic.
pub fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).at(Path::new("stdout"))
}

/// Says a line on stderr, without characters that a terminal would obey. Where nobody listens there is nowhere left to say so.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", plain(line));
}

/// Text in one line, without characters that a terminal would obey.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// An error in one line, in the words of the command line: an argument by its option, and which option helps.
pub fn told(error: &Error) -> String {
    let advice = match error {
        Error::Argument { name: "key", reason } => return plain(&format!("--key: {reason}; --new-key makes one")),
        Error::Argument { name, reason } => return plain(&format!("{}: {reason}", option(name))),
        Error::TooLarge { megapixels: Some(needed), .. } => format!(" (--max-megapixels {needed})"),
        Error::TooLarge { megapixels: None, .. } => " (--max-megapixels)".into(),
        Error::OtherRun { path, difference } if difference.calling(option) != *difference => {
            let (path, difference) = (path.clone(), difference.calling(option));
            return told(&Error::OtherRun { path, difference });
        }
        Error::Uncalibrated(_) => " (hotad calibrate MODEL --data DIR --device cpu; docs/devices.md)".into(),
        Error::Kernel(KernelError::Memory(_)) => memory::remedy().into(),
        _ => String::new(),
    };
    plain(&format!("{error}{advice}"))
}

/// The option that gives an argument.
pub fn option(argument: &str) -> String {
    match argument {
        "members" => "--member".into(),
        "folds" => "--cv".into(),
        same => format!("--{}", same.replace('_', "-")),
    }
}

/// Makes a folder and makes sure that it can be written to.
pub fn folder(path: &Path) -> Result<()> {
    if path.is_file() {
        return Err(Error::Config(format!("{}: is a file; name a folder", shown(path))));
    }
    std::fs::create_dir_all(path).at(path)?;
    check_writable(path)
}

/// How a command begins, as its options say.
pub fn begin(resume: bool, force: bool) -> Begin {
    match (resume, force) {
        (true, _) => Begin::Resume,
        (false, true) => Begin::Over,
        (false, false) => Begin::Afresh,
    }
}

/// Fails early where a command could not write its result, would write over an earlier one, or has nothing to continue from; says
/// which options help.
pub fn result_file(out: &Path, begin: Begin) -> Result<()> {
    let Some(conflict) = Conflict::of(out, begin) else {
        return check_writable(out.parent().unwrap_or(Path::new(".")));
    };
    let options = match conflict {
        Conflict::Folder | Conflict::Special => "",
        Conflict::Result => "; --force writes over it",
        Conflict::Checkpoint(_) => "; --resume continues it, --force begins anew",
        Conflict::NoCheckpoint => "; leave --resume out",
    };
    Err(Error::Config(format!("--out {}: {conflict}{options}", shown(out))))
}

/// [`result_file`] for the changed form of a file that is read, which may be written over itself.
pub fn changed_file(read: &Path, out: &Path, force: bool) -> Result<()> {
    // A checkpoint there is of no concern to it.
    if is_same_file(read, out) { Ok(()) } else { result_file(out, begin(false, force || !out.exists())) }
}

/// Fails where a result would be written over a file that it is made of.
pub fn not_over(read: &[PathBuf], out: &Path) -> Result<()> {
    match read.iter().any(|path| is_same_file(path, out)) {
        true => Err(Error::Config(format!("--out {}: is what is read; name another file", shown(out)))),
        false => Ok(()),
    }
}

/// What a path cannot tell as text: its bytes in hexadecimal, where it is not UTF-8.
pub fn bytes_of(path: &Path) -> Option<String> {
    path.to_str().is_none().then(|| hex(path.as_os_str().as_encoded_bytes()))
}

/// Writes a map as a two-dimensional f32 array in NumPy's format 1.0.
pub fn write_npy(path: &Path, map: &AnomalyMap) -> Result<()> {
    let (height, width) = (map.height, map.width);
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({height}, {width}), }}");
    let padding = 64 - (10 + header.len() + 1) % 64;
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    atomic_file::write(path, |out| {
        out.write_all(b"\x93NUMPY\x01\x00")?;
        out.write_all(&(header.len() as u16).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        map.values.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))
    })
}

/// Says on stderr what the user should know.
pub fn warn(warning: &str) {
    note(&format!("hotad: warning: {warning}"));
}

/// All images under the given files and folders, each with a name that is unique among them; says what was left out.
pub fn collect_images(paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>> {
    let collected = collect::collect_images(paths)?;
    collected.warnings().iter().for_each(|warning| warn(warning));
    Ok(collected.images)
}
