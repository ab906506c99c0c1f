//! The log of a run: a JSON object a line, one for each epoch.

use std::fs::File;
use std::io::{BufRead, BufReader, Result as IoResult, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{AtPath, Result, shown};

/// A log that is written.
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// A log that begins anew, or goes on after the epochs that a resumed run has done: lines of later ones come again.
    pub(super) fn open(path: &Path, done: Option<usize>) -> Result<Self> {
        let mut how = File::options();
        how.create(true).write(true).read(done.is_some()).truncate(done.is_none());
        let mut file = how.open(path).at(path)?;
        if let Some(epochs) = done
            && file.metadata().at(path)?.is_file()
        {
            let kept = length(&file, epochs).at(path)?;
            file.set_len(kept).at(path)?;
            file.seek(SeekFrom::Start(kept)).at(path)?;
        }
        Ok(Self { path: path.into(), file })
    }

    /// Writes a line.
    ///
    /// # Errors
    /// The file and why it takes no more.
    pub(super) fn write(&mut self, line: &Value) -> std::result::Result<(), String> {
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|e| format!("{}: {e}", shown(&self.path)))
    }
}

/// Bytes of the lines up to an epoch. A line that was not written to its end is none of them.
fn length(file: &File, epochs: usize) -> IoResult<u64> {
    let (mut reader, mut line, mut kept) = (BufReader::new(file), Vec::new(), 0);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        let value: Value = serde_json::from_slice(&line).unwrap_or_default();
        if !line.ends_with(b"\n") || value["epoch"].as_u64().is_none_or(|epoch| epoch > epochs as u64) {
            return Ok(kept);
        }
        kept += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_resumed_run_goes_on_after_its_epochs() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.jsonl");
        let write = |done: Option<usize>, epochs: &[u64]| {
            let mut log = Log::open(&path, done).expect("a log");
            epochs.iter().for_each(|epoch| log.write(&json!({ "epoch": epoch })).expect("written"));
        };
        let epochs = || -> Vec<u64> {
            let text = std::fs::read_to_string(&path).expect("text");
            let epoch = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["epoch"].as_u64();
            text.lines().map(|line| epoch(line).expect("a number")).collect()
        };
        write(Some(0), &[1, 2, 3, 4]);
        write(Some(2), &[3]);
        assert_eq!(epochs(), [1, 2, 3]);
        // Killed while it wrote a line.
        let mut file = File::options().append(true).open(&path).expect("a log");
        write!(file, "{{\"epoch\":4").expect("written");
        write(Some(9), &[4]);
        assert_eq!(epochs(), [1, 2, 3, 4]);
        write(None, &[1]);
        assert_eq!(epochs(), [1]);
    }
}
