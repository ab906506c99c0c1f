//! The directory of a TIFF: how long its tables are and whether further pages follow.

/// The bytes of a classic TIFF and where its first page is described.
struct Directory<'a> {
    bytes: &'a [u8],
    little: bool,
    start: usize,
    entries: usize,
}

impl<'a> Directory<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let little = match bytes.get(..4)? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        let mut directory = Self { bytes, little, start: 0, entries: 0 };
        directory.start = directory.long(4)? as usize;
        directory.entries = directory.short(directory.start)?.into();
        Some(directory)
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..)?.first_chunk().copied()?;
        Some(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn long(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..)?.first_chunk().copied()?;
        Some(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// Where entry `i` is; after the last one, where the place of the next page is told.
    fn entry(&self, i: usize) -> usize {
        self.start.saturating_add(2 + 12 * i)
    }

    /// Bytes of the values of entry `i`.
    fn length(&self, i: usize) -> Option<u64> {
        let at = self.entry(i);
        let size = match self.short(at + 2)? {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        };
        Some(size * u64::from(self.long(at + 4)?))
    }
}

/// Whether every table of the first page is shorter than the file: a decoder takes memory for them before it reads them.
pub(super) fn tables_fit(bytes: &[u8]) -> bool {
    let Some(directory) = Directory::new(bytes) else { return false };
    (0..directory.entries).all(|i| directory.length(i).is_some_and(|length| length <= bytes.len() as u64))
}

/// Whether a second page follows.
pub(super) fn has_pages(bytes: &[u8]) -> bool {
    let next = |directory: Directory| directory.long(directory.entry(directory.entries));
    Directory::new(bytes).and_then(next).is_some_and(|offset| offset > 0)
}
