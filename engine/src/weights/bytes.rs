//! A position in bytes; every read is checked against what is left.

/// What is left to read.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next `length` bytes.
    pub fn take(&mut self, length: u64) -> Result<&'a [u8], String> {
        let split = usize::try_from(length).ok().and_then(|n| self.0.split_at_checked(n));
        let (taken, left) = split.ok_or("ends early: the file is cut short or broken, fetch it again")?;
        self.0 = left;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[b]| b)
    }

    pub fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// Text up to the next line feed, without it.
    pub fn line(&mut self) -> Result<&'a str, String> {
        let length = self.0.iter().position(|&b| b == b'\n').unwrap_or(self.0.len());
        let line = self.take(length as u64)?;
        self.byte()?;
        std::str::from_utf8(line).map_err(|_| "the pickle holds a line that is no text".into())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }
}
