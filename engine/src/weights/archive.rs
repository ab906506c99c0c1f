//! Zip archives whose declared sizes are not trusted: what is unpacked is limited to a multiple of the archive's length.

use std::io::{Cursor, Read, Seek};

use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;

/// How much larger than the file everything read from it may be. Deflate reaches 1032; weights, which
/// hardly compress, stay below 2.
const MAX_EXPANSION: u64 = 200;
/// The most that is read in all, 4 GiB: a hundred times the largest network that is recognised.
pub(super) const MAX_BYTES: u64 = 4 << 30;

/// Bytes that may still be unpacked from a file and from the archives inside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget(u64);

impl Budget {
    /// For a file of `length` bytes.
    pub fn of(length: u64) -> Self {
        Self(length.saturating_mul(MAX_EXPANSION).min(MAX_BYTES))
    }

    fn take(&mut self, bytes: u64) -> Result<(), String> {
        let why = "unpacks to more than weights can (200 times its length, or 4 GiB)";
        self.0 = self.0.checked_sub(bytes).ok_or(why)?;
        Ok(())
    }
}

/// An archive and what may still be unpacked from it.
pub(super) struct Archive<R> {
    zip: ZipArchive<R>,
    /// What is left.
    pub budget: Budget,
}

impl<'a> Archive<Cursor<&'a [u8]>> {
    /// Of bytes in memory.
    pub fn in_memory(bytes: &'a [u8], budget: Budget) -> Result<Self, String> {
        Self::new(Cursor::new(bytes), budget)
    }
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the list of entries.
    pub fn new(reader: R, budget: Budget) -> Result<Self, String> {
        // Nothing lies before the archive; the search for where it begins misjudges some of PyTorch's files.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, reader)
            .map_err(|e| format!("a zip archive that is cut short or broken ({e}): fetch it again"))?;
        Ok(Self { zip, budget })
    }

    /// Names of all files, in the archive's order.
    pub fn names(&self) -> Vec<String> {
        let names = (0..self.zip.len()).filter_map(|i| self.zip.name_for_index(i)?.ok());
        names.map(|name| name.into_owned()).filter(|name| !name.ends_with('/')).collect()
    }

    /// What PyTorch calls the archive: the folder of `data.pkl`, when this is a file of `torch.save`.
    pub fn torch_folder(&self) -> Option<String> {
        let names = self.names();
        let mut folders = names.iter().filter_map(|n| n.strip_suffix("/data.pkl")).filter(|f| !f.contains('/'));
        let folder = folders.next()?;
        folders.next().is_none().then(|| folder.to_string())
    }

    /// Length that the archive gives for an entry; `None` when there is no such entry.
    pub fn size(&mut self, name: &str) -> Option<u64> {
        let index = self.zip.index_for_name(name)?;
        self.zip.by_index_raw(index).ok().map(|entry| entry.size())
    }

    /// The first bytes of an entry, at most `length`; none when it is packed in a way that is not read.
    pub fn head(&mut self, name: &str, length: u64) -> Result<Vec<u8>, String> {
        match self.read_at_most(name, length) {
            Err(Failure::Unsupported(_)) => Ok(Vec::new()),
            other => Ok(other?),
        }
    }

    /// A whole entry, its checksum verified.
    pub fn read(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let size =
            self.size(name).ok_or_else(|| format!("entry {name:?} is missing: the file is broken, fetch it again"))?;
        self.budget.take(size).map_err(|e| format!("entry {name:?} {e}"))?;
        let bytes = self.read_at_most(name, size.saturating_add(1))?;
        if bytes.len() as u64 != size {
            return Err(format!(
                "entry {name:?} has another length than the archive says: the file is broken, fetch it again"
            ));
        }
        Ok(bytes)
    }

    fn read_at_most(&mut self, name: &str, length: u64) -> Result<Vec<u8>, Failure> {
        let entry = self.zip.by_name(name).map_err(|e| Failure::of(name, &e))?;
        let mut bytes = Vec::new();
        entry
            .take(length)
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::Broken(format!("entry {name:?}: {e}: fetch the file again")))?;
        Ok(bytes)
    }
}

/// Why an entry was not read.
enum Failure {
    Unsupported(String),
    Broken(String),
}

impl Failure {
    fn of(name: &str, error: &ZipError) -> Self {
        let reason = format!("entry {name:?}: {error}");
        match error {
            ZipError::UnsupportedArchive(_)
            | ZipError::InvalidPassword
            | ZipError::CompressionMethodNotSupported(_) => Self::Unsupported(reason),
            _ => Self::Broken(reason),
        }
    }
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsupported(reason) | Failure::Broken(reason) => reason,
        }
    }
}
