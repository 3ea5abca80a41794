//! Writing one file of a recording.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::ColumnPath;

use super::meta::Meta;
use super::name::escape;
use super::schema::{Kind, Row, metadata, parquet_schema};
use super::seal::{self, Sealing};

/// Most rows that one row group holds: what a writer must keep in memory.
pub const GROUP_ROWS: usize = 16_384;

/// Name of a table's file with this number.
pub fn file_name<R: Row>(number: u32) -> String {
    format!("{}-{number:06}.parquet", R::TABLE)
}

/// The name that a file has until it is complete.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// How a file is created; the tests put a full disk here.
pub type CreateFile = fn(&Path) -> io::Result<File>;

/// Create a file that only its owner may read: names of tasks are private. There must not be one of that name.
///
/// # Errors
/// As the system says.
pub fn create_private(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// A Parquet file in the making. What is not [`Writer::finish`]ed is not a file that can be read.
pub struct Writer<W: Write + Send, R: Row> {
    writer: SerializedFileWriter<Sealing<W>>,
    _row: std::marker::PhantomData<R>,
}

impl<W: Write + Seek + Send, R: Row> Writer<W, R> {
    /// Begin a file.
    ///
    /// # Errors
    /// When `out` cannot be written to; the same for the other functions.
    pub fn new(out: W, meta: &Meta) -> io::Result<Self> {
        let mut pairs = metadata::<R>(meta);
        // The last one: the seal is looked for from the end.
        pairs.push(KeyValue::new(seal::KEY.to_string(), seal::OPEN.to_string()));
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("scx_ml {}", meta.version))
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_max_row_group_size(GROUP_ROWS)
            .set_key_value_metadata(Some(pairs));
        // Times are all different and close to each other: a dictionary is a waste, differences are small.
        for c in R::columns().iter().filter(|c| c.unit.contains("CLOCK_")) {
            let path = ColumnPath::from(c.name);
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
        let mut writer = parquet_schema::<R>()
            .and_then(|schema| {
                SerializedFileWriter::new(Sealing::new(out), schema, Arc::new(properties.build()))
            })
            .map_err(io_error)?;
        // A disk that takes nothing is found now.
        writer.flush()?;
        Ok(Self {
            writer,
            _row: std::marker::PhantomData,
        })
    }

    /// Write rows, in groups of at most [`GROUP_ROWS`].
    pub fn write(&mut self, rows: &[R]) -> io::Result<()> {
        for rows in rows.chunks(GROUP_ROWS) {
            self.write_group(rows).map_err(io_error)?;
            self.writer.flush()?;
        }
        Ok(())
    }

    fn write_group(&mut self, rows: &[R]) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for c in R::columns() {
            let fields = || {
                rows.iter()
                    .map(|row| &row.as_bytes()[c.offset..c.offset + c.kind.size()])
            };
            match c.kind {
                Kind::U64 => column::<Int64Type, _, _>(
                    &mut group,
                    fields().map(|b| i64::from_ne_bytes(array(b))),
                )?,
                Kind::U32 | Kind::S32 => column::<Int32Type, _, _>(
                    &mut group,
                    fields().map(|b| i32::from_ne_bytes(array(b))),
                )?,
                Kind::S16 => column::<Int32Type, _, _>(
                    &mut group,
                    fields().map(|b| i16::from_ne_bytes(array(b)).into()),
                )?,
                Kind::Text(_) => column::<ByteArrayType, _, _>(
                    &mut group,
                    fields().map(|b| ByteArray::from(escape(b).into_bytes())),
                )?,
            }
        }
        group.close()?;
        Ok(())
    }

    /// Bytes written so far; the footer comes on top.
    pub fn bytes(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    /// Complete the file.
    pub fn finish(self) -> io::Result<W> {
        self.writer.into_inner().map_err(io_error)?.seal()
    }
}

/// Write a whole file of a recording, replacing none.
///
/// # Errors
/// When the file is there already or cannot be written; what was written is then gone again.
pub fn write_file<R: Row>(path: &Path, meta: &Meta, rows: &[R]) -> io::Result<u64> {
    write_file_with(path, meta, rows, create_private)
}

/// The same with another way to create the file.
pub(super) fn write_file_with<R: Row>(
    path: &Path,
    meta: &Meta,
    rows: &[R],
    create: CreateFile,
) -> io::Result<u64> {
    let temporary = unfinished(path);
    let file = create(&temporary)?;
    let written = (|| {
        let mut writer = Writer::<_, R>::new(file, meta)?;
        writer.write(rows)?;
        complete(writer.finish()?, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Give a finished file its name, once it is on the disk; its size in bytes.
///
/// # Errors
/// When it cannot be brought there.
pub fn complete(file: File, path: &Path) -> io::Result<u64> {
    file.sync_all()?;
    let bytes = file.metadata()?.len();
    std::fs::rename(unfinished(path), path)?;
    // So that the name is on the disk as well. Not all file systems can do that for a folder.
    if let Some(dir) = path.parent().and_then(|dir| File::open(dir).ok()) {
        let _ = dir.sync_all();
    }
    Ok(bytes)
}

fn column<T, W, I>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: I,
) -> Result<(), ParquetError>
where
    T: DataType,
    W: Write + Send,
    I: Iterator<Item = T::T>,
{
    let mut column = group
        .next_column()?
        .ok_or_else(|| ParquetError::General("more columns than the schema has".into()))?;
    let values: Vec<T::T> = values.collect();
    column.typed::<T>().write_batch(&values, None, None)?;
    column.close()
}

/// The first `N` bytes, of which there are as many.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|i| bytes[i])
}

/// The system's error inside the library's, or the library's.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(inner) => *inner,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
