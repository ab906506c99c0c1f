//! Files and lines that commands write: results on stdout, maps, overlays.

use std::io::Write;
use std::path::{Path, PathBuf};

use hotad_engine::data::prepare::{self, OnBroken, Prepared, hex};
use hotad_engine::data::{Dataset, Item, collect};
use hotad_engine::error::shown;
use hotad_engine::{AtPath, Error, Result, atomic_file};
use hotad_models::detector::checkpoints;

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

/// An error in one line.
pub fn one_line(error: &Error) -> String {
    plain(&error.to_string())
}

/// Makes a folder and makes sure that it can be written to.
pub fn folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).at(path)?;
    writable(path)
}

/// Fails early where a result could not be written.
pub fn writable(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    tempfile::Builder::new().prefix(".hotad-").suffix(".tmp").tempfile_in(folder).map(drop).at(folder)
}

/// What a run may do with what is at its place already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Nothing: a model or a checkpoint there is refused.
    Afresh,
    /// Continue from its checkpoint.
    Resume,
    /// Write over it.
    Over,
}

impl Begin {
    /// As the options say.
    pub fn of(resume: bool, force: bool) -> Self {
        match (resume, force) {
            (true, _) => Self::Resume,
            (false, true) => Self::Over,
            (false, false) => Self::Afresh,
        }
    }
}

/// Fails early where a command could not write its result, would write over an earlier one, or has nothing to continue from.
pub fn result_file(out: &Path, begin: Begin) -> Result<()> {
    let refuse = |reason: String| Err(Error::Config(format!("--out {}: {reason}", shown(out))));
    if out.is_dir() {
        return refuse("is a folder; name a file".into());
    }
    if begin == Begin::Afresh && out.exists() {
        return refuse("is there already; --force writes over it".into());
    }
    match (checkpoints(out).first(), begin) {
        (Some(path), Begin::Afresh) => {
            refuse(format!("{} is of an interrupted run; --resume continues it, --force begins anew", shown(path)))
        }
        (None, Begin::Resume) => refuse("has no checkpoint to resume from; leave --resume out".into()),
        _ => writable(out.parent().unwrap_or(Path::new("."))),
    }
}

/// What a path cannot tell as text: its bytes in hexadecimal, where it is not UTF-8.
pub fn bytes_of(path: &Path) -> Option<String> {
    path.to_str().is_none().then(|| hex(path.as_os_str().as_encoded_bytes()))
}

/// Writes a two-dimensional f32 array in NumPy's format 1.0.
pub fn write_npy(path: &Path, values: &[f32], height: usize, width: usize) -> Result<()> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({height}, {width}), }}");
    let padding = 64 - (10 + header.len() + 1) % 64;
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    atomic_file::write(path, |out| {
        out.write_all(b"\x93NUMPY\x01\x00")?;
        out.write_all(&(header.len() as u16).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        values.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))
    })
}

/// Says on stderr what the user should know.
pub fn warn(warnings: &[String]) {
    for warning in warnings {
        note(&format!("hotad: warning: {}", warning.replace('\n', " ")));
    }
}

/// All images under the given files and folders, each with a name that is unique among them; says what was left out.
pub fn collect_images(paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>> {
    let collected = collect::collect_images(paths)?;
    warn(&collected.warnings());
    Ok(collected.images)
}

/// Looks at every image once; says which were skipped, and what the user should know about the others.
pub fn prepare(items: &[Item], on_broken: OnBroken) -> Result<Prepared> {
    let prepared = prepare::prepare(items, on_broken)?;
    let skipped: Vec<String> = prepared.skipped.iter().map(|error| format!("skipped {error}")).collect();
    warn(&skipped);
    warn(&prepared.warnings);
    Ok(prepared)
}

/// Opens a data set and says what the user should know about it.
pub fn data_set(root: &Path) -> Result<Dataset> {
    let data = Dataset::open(root)?;
    warn(&data.warnings);
    Ok(data)
}
