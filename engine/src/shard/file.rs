//! Files of shards: JSON lines. First a header, which says what the results are of; then one line for each result; last a
//! SHA-256 of all lines before it, so that a file that was cut or altered is noticed.

use std::fs::File;
use std::io::{BufRead, BufReader, Error as IoError, Read, Result as IoResult, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Shard;
use crate::data::prepare::hex;
use crate::error::{AtPath, Error, Result, shown};
use crate::{atomic_file, input_file};

/// The version of this format.
const FORMAT: u32 = 2;

/// Bytes of a line at most: those of the largest maps and masks are some ten megabytes.
const LONGEST: u64 = 1 << 28;

/// Shards of a run at most.
pub(super) const MOST: usize = 100_000;

/// What the results of a shard are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format.
    hotad_shard: u32,
    /// Version of the program.
    version: String,
    /// The command that made it.
    pub command: String,
    /// Number of the shard.
    index: usize,
    /// How many there are.
    count: usize,
    /// SHA-256 of the model file.
    pub model: String,
    /// What all shards together are of: SHA-256 of the listing.
    pub listing: String,
    /// Files of the listing.
    pub files: usize,
    /// Options that results depend on, by their names.
    pub options: serde_json::Map<String, Value>,
    /// What the command keeps beside.
    pub about: Value,
    /// Lines of results that follow.
    pub lines: usize,
}

impl Header {
    /// Of a shard, with nothing known yet.
    pub fn new(command: &str, shard: Shard) -> Self {
        Self {
            hotad_shard: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            command: command.into(),
            index: shard.index,
            count: shard.count,
            model: String::new(),
            listing: String::new(),
            files: 0,
            options: serde_json::Map::new(),
            about: Value::Null,
            lines: 0,
        }
    }

    /// Its shard.
    pub fn shard(&self) -> Shard {
        Shard { index: self.index, count: self.count }
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        format!("{}-{}-of-{}.shard", self.command, self.index, self.count)
    }
}

/// The last line.
#[derive(Serialize, Deserialize)]
struct End {
    sha256: String,
}

/// A file that is being written.
pub struct Lines<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    path: &'a Path,
}

impl Lines<'_> {
    /// Adds a line.
    ///
    /// # Errors
    /// I/O errors, with the path.
    pub fn add(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line).expect("a line is plain data");
        text.push(b'\n');
        self.hash.update(&text);
        self.out.write_all(&text).at(self.path)
    }
}

/// Writes a file into a folder, whole or not at all; returns its path. A file of the same shard is replaced.
///
/// # Errors
/// I/O errors, with the path; what `body` says.
pub fn write(folder: &Path, header: &Header, body: impl FnOnce(&mut Lines) -> Result<()>) -> Result<PathBuf> {
    let path = folder.join(header.file_name());
    let mut failed = None;
    let written = atomic_file::write(&path, |out| {
        let mut lines = Lines { out, hash: Sha256::new(), path: &path };
        let filled = lines.add(header).and_then(|()| body(&mut lines));
        let sha256 = hex(&lines.hash.clone().finalize());
        filled.and_then(|()| lines.add(&End { sha256 })).map_err(|error| {
            failed = Some(error);
            IoError::other("not written")
        })
    });
    failed.map_or(written, Err)?;
    Ok(path)
}

/// A file that was read once and found whole.
pub struct ShardFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it is of.
    pub header: Header,
}

fn damaged(path: &Path) -> Error {
    let reason = "no whole file of a shard: it was cut or altered, or is another file; run the shard again".into();
    Error::Data { path: path.into(), reason }
}

/// Calls `each` with the lines of a file, line ends included.
fn for_each_line(path: &Path, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut file: BufReader<File> = BufReader::new(input_file::open(path)?);
    let mut line = Vec::new();
    while file.by_ref().take(LONGEST).read_until(b'\n', &mut line).at(path)? > 0 {
        if line.len() as u64 == LONGEST {
            return Err(damaged(path));
        }
        each(&line)?;
        line.clear();
    }
    Ok(())
}

impl ShardFile {
    /// Reads a file once and checks that it is whole.
    ///
    /// # Errors
    /// When it cannot be read, was cut or altered, or is of a newer format.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut hash, mut header, mut count, mut end) = (Sha256::new(), None, 0, None::<Vec<u8>>);
        for_each_line(path, |line| {
            // What looks like the end is a line before it when another follows.
            if let Some(before) = end.replace(line.to_vec()) {
                hash.update(&before);
                count += 1;
                if header.is_none() {
                    header = Some(Self::header(path, &before)?);
                }
            }
            Ok(())
        })?;
        let header = header.ok_or_else(|| damaged(path))?;
        let end: End = end.and_then(|end| serde_json::from_slice(&end).ok()).ok_or_else(|| damaged(path))?;
        if end.sha256 != hex(&hash.finalize())
            || count != header.lines.saturating_add(1)
            || header.index >= header.count
            || header.count > MOST
        {
            return Err(damaged(path));
        }
        Ok(Self { path: path.into(), header })
    }

    fn header(path: &Path, line: &[u8]) -> Result<Header> {
        let header: Header = serde_json::from_slice(line).map_err(|_| damaged(path))?;
        if header.hotad_shard > FORMAT {
            let reason =
                format!("format {} of shards is newer than this hotad reads; update hotad", header.hotad_shard);
            return Err(Error::Data { path: path.into(), reason });
        }
        Ok(header)
    }

    /// Its results, in their order.
    fn results<T: DeserializeOwned>(&self) -> Result<impl Iterator<Item = Result<T>>> {
        let lines = BufReader::new(input_file::open(&self.path)?).split(b'\n').skip(1).take(self.header.lines);
        let result =
            |line: IoResult<Vec<u8>>| serde_json::from_slice(&line.at(&self.path)?).map_err(|_| damaged(&self.path));
        Ok(lines.map(result))
    }
}

/// A result, and the number of its file in the listing.
#[derive(Serialize, Deserialize)]
pub struct At<T> {
    /// The number.
    pub at: usize,
    /// The result.
    pub result: T,
}

/// Calls `each` with the results of all files in the order of the listing.
///
/// # Errors
/// A line that is no such result, one file of the listing in two shards; what `each` says.
pub fn merged<T: DeserializeOwned>(files: &[ShardFile], mut each: impl FnMut(T) -> Result<()>) -> Result<()> {
    let mut all = Vec::new();
    for file in files {
        let mut results = file.results::<At<T>>()?;
        all.push((file, results.next().transpose()?, results));
    }
    let mut before = None;
    loop {
        let next = all.iter_mut().filter(|(_, next, _)| next.is_some());
        let Some((file, next, results)) = next.min_by_key(|(_, next, _)| next.as_ref().map(|n| n.at)) else {
            return Ok(());
        };
        let Some(At { at, result }) = std::mem::replace(next, results.next().transpose()?) else { return Ok(()) };
        if before.replace(at).is_some_and(|before| before >= at) {
            return Err(damaged(&file.path));
        }
        each(result)?;
    }
}

/// Opens the files of one run, in the order of their shards.
///
/// # Errors
/// A file that is not whole, a shard that is missing or there twice, shards of different runs.
pub fn open_all(paths: &[PathBuf]) -> Result<Vec<ShardFile>> {
    let mut files: Vec<ShardFile> = paths.iter().map(|path| ShardFile::open(path)).collect::<Result<_>>()?;
    let Some(first) = files.first() else { return Err(Error::Config("there are no shards to merge".into())) };
    for other in &files[1..] {
        if let Some(what) = difference(&first.header, &other.header) {
            let reason = format!("{what} than {}; merge shards of one run", shown(&first.path));
            return Err(Error::Data { path: other.path.clone(), reason });
        }
    }
    files.sort_by_key(|file| file.header.index);
    let twice = files.windows(2).find(|pair| pair[0].header.index == pair[1].header.index);
    if let Some([known, again]) = twice {
        let reason = format!("shard {} is in {} too; name each once", again.header.shard(), shown(&known.path));
        return Err(Error::Data { path: again.path.clone(), reason });
    }
    let count = files[0].header.count;
    let missing = (0..count).filter(|i| files.iter().all(|file| file.header.index != *i));
    let missing: Vec<String> = missing.map(|i| format!("{i}/{count}")).collect();
    if missing.is_empty() {
        return Ok(files);
    }
    Err(Error::Config(format!("shards are missing: {}; run them, or name their files too", missing.join(", "))))
}

/// What two shards of one run would have in common and these do not.
fn difference(a: &Header, b: &Header) -> Option<String> {
    let option = || a.options.keys().chain(b.options.keys()).find(|key| a.options.get(*key) != b.options.get(*key));
    match () {
        () if a.command != b.command => Some("of another command".into()),
        () if a.version != b.version => Some("of another version of hotad".into()),
        () if a.count != b.count => Some("of another number of shards".into()),
        () if a.model != b.model => Some("of another model".into()),
        () if (&a.listing, a.files) != (&b.listing, b.files) => Some("of other data".into()),
        () => option().map(|key| format!("under another {key}")),
    }
}
