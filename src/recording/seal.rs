//! The seal: a checksum over the whole file, in its metadata.
//!
//! Problem: the Parquet reader trusts the lengths that it finds. In a damaged file they can make it ask for more memory
//! than there is, which ends the program, and a flipped bit in a value is not found at all.
//! How: the writer leaves sixteen zeroes as the value of `scx_ml.checksum`, hashes everything it writes, and puts the
//! hash there at the end. The reader does the same sum before it looks at anything else.
//! Limitation: it finds accidents, not forgery.

use std::hash::Hasher;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;

use twox_hash::XxHash64;

/// Key of the checksum in the metadata.
pub const KEY: &str = "scx_ml.checksum";

/// The checksum's place while the file is written.
pub const OPEN: &str = "0000000000000000";

/// What a Parquet file begins and ends with.
const MAGIC: &[u8] = b"PAR1";

/// Why a file is not one of ours, or not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    NotParquet,
    /// It begins as Parquet and does not end so.
    Truncated,
    /// There is no checksum.
    Foreign,
    /// There is, and it is not that of the file.
    Damaged,
}

/// Hashes what passes.
pub struct Sealing<W> {
    pub inner: W,
    hash: XxHash64,
    /// The end of what passed: the footer is there.
    tail: Vec<u8>,
    len: u64,
}

/// Longer than any footer's metadata, which comes last of all.
const TAIL: usize = 64 * 1024;

impl<W: Write> Sealing<W> {
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hash: XxHash64::with_seed(0),
            tail: Vec::new(),
            len: 0,
        }
    }
}

impl<W: Write + Seek> Sealing<W> {
    /// Put the checksum into the file, which must be whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn seal(mut self) -> io::Result<W> {
        let place = digits(&self.tail)
            .ok_or_else(|| io::Error::other("the end of the file has no place for a checksum"))?;
        let from_end = self.tail.len() - place.start;
        self.inner
            .seek(SeekFrom::Start(self.len - from_end as u64))?;
        write!(self.inner, "{:016x}", self.hash.finish())?;
        self.inner.seek(SeekFrom::End(0))?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        let passed = &buf[..written];
        self.hash.write(passed);
        self.len += written as u64;
        self.tail
            .extend_from_slice(&passed[passed.len().saturating_sub(TAIL)..]);
        if self.tail.len() > 4 * TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether the file is whole and as it was written.
pub fn check(file: &[u8]) -> Result<(), Broken> {
    if !file.starts_with(MAGIC) {
        return Err(Broken::NotParquet);
    }
    if file.len() < 3 * MAGIC.len() || !file.ends_with(MAGIC) {
        return Err(Broken::Truncated);
    }
    let start = file.len().saturating_sub(TAIL);
    let place = digits(&file[start..]).ok_or(Broken::Foreign)?;
    let place = start + place.start..start + place.end;
    let mut hash = XxHash64::with_seed(0);
    hash.write(&file[..place.start]);
    hash.write(OPEN.as_bytes());
    hash.write(&file[place.end..]);
    let found = std::str::from_utf8(&file[place])
        .ok()
        .and_then(|text| u64::from_str_radix(text, 16).ok());
    if found != Some(hash.finish()) {
        return Err(Broken::Damaged);
    }
    Ok(())
}

/// Seal bytes that were changed, for tests and fuzz targets of what comes after the seal.
#[cfg(any(test, fuzzing))]
pub fn reseal(file: &mut [u8]) {
    if let Some(place) = digits(file) {
        file[place.clone()].copy_from_slice(OPEN.as_bytes());
        let mut hash = XxHash64::with_seed(0);
        hash.write(file);
        file[place].copy_from_slice(format!("{:016x}", hash.finish()).as_bytes());
    }
}

/// Where the checksum's digits are: behind the last occurrence of its key, a type and a length.
fn digits(tail: &[u8]) -> Option<Range<usize>> {
    let key = tail
        .windows(KEY.len())
        .rposition(|window| window == KEY.as_bytes())?;
    let start = key + KEY.len() + 2;
    let end = start + OPEN.len();
    (end <= tail.len()).then_some(start..end)
}
