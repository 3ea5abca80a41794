//! Reading a recording. The files come from a disk, so nothing in them is taken for granted.

use std::fs::File;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use log::warn;
use parquet::basic::Repetition;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::FileMetaData;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;

use super::schema::{Column, FORMAT, Kind, Loss, Meta, PREFIX, Row, unescape};
use super::seal::{self, Broken};
use super::write::{GROUP_ROWS, file_name, unfinished};
use crate::features;
use crate::sample::Sample;

/// Rows that are read at most: 20 million samples take about 5 GB of memory.
pub const ROWS_MAX: u64 = 20_000_000;

/// Bytes that one file may have: several times what the recorder puts into one.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// CPU time of a burst above which the record is taken to be wrong: eleven days.
const BURST_NS_MAX: u64 = 1_000_000_000_000_000;

/// A recording, or a segment of one.
#[derive(Clone)]
pub struct Recording {
    pub meta: Meta,
    /// Sorted by `end_ns`.
    pub samples: Vec<Sample>,
    /// Sorted by `start_ns`. Empty for a single segment.
    pub losses: Vec<Loss>,
    /// Samples left out because they cannot be true: they block before they wake, or run for weeks.
    pub implausible: u64,
}

/// Why a recording cannot be read. Each names the file, what was found there and what can be done.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} has no segments of a recording (samples-000000.parquet, …); give the folder that scx_ml --record wrote to", 
        .0.display()
    )]
    NoSegments(PathBuf),
    #[error(
        "{} has only unfinished segments: the recording was ended by force in its first minute, or has just begun; \
         record again, or wait for a minute",
        .0.display()
    )]
    Unfinished(PathBuf),
    #[error("{} is not a Parquet file; give a folder or a segment that scx_ml --record wrote", .0.display())]
    NotParquet(PathBuf),
    #[error("{} ends in the middle: it was cut off; restore it, or move it out of the folder", .0.display())]
    Truncated(PathBuf),
    #[error(
        "{} is a Parquet file, but not one of scx_ml as it wrote it; give a folder or a segment that scx_ml --record \
         wrote",
        .0.display()
    )]
    Foreign(PathBuf),
    #[error("{} is damaged ({what}); restore it, or move it out of the folder", .path.display())]
    Damaged { path: PathBuf, what: String },
    #[error(
        "{} is of format {found}, this scx_ml reads format {FORMAT}; use the version that recorded it ({version})",
        .path.display()
    )]
    Format {
        path: PathBuf,
        found: String,
        version: String,
    },
    #[error(
        "{} was recorded by scx_ml {version} with other features than this version's; use that version, or record \
         again",
        .path.display()
    )]
    FeatureSet { path: PathBuf, version: String },
    #[error("{} is a table of {found}, not of {expected}; do not rename the files of a recording", .path.display())]
    Table {
        path: PathBuf,
        found: String,
        expected: &'static str,
    },
    #[error(
        "{}: column {column} is {found}, not {expected}; it was recorded by scx_ml {version}, use that version",
        .path.display()
    )]
    Column {
        path: PathBuf,
        column: String,
        found: String,
        expected: String,
        version: String,
    },
    #[error("{}, row {row} (0 is the first): {what}; the file is not as scx_ml writes it", .path.display())]
    Value {
        path: PathBuf,
        row: u64,
        what: String,
    },
    #[error(
        "{} is of another recording than {}: {what} differs; keep each recording in a folder of its own",
        .path.display(), .first.display()
    )]
    Mixed {
        path: PathBuf,
        first: PathBuf,
        what: &'static str,
    },
    #[error(
        "{} brings the recording to {rows} rows, at most {limit} are read; move some of its segments elsewhere",
        .path.display()
    )]
    TooManyRows {
        path: PathBuf,
        rows: u64,
        limit: u64,
    },
    #[error("{} has {found} bytes, a segment has at most {FILE_BYTES_MAX}; is it one?", .path.display())]
    TooLarge { path: PathBuf, found: u64 },
}

impl Recording {
    /// Read all segments of a folder, or a single segment of samples.
    ///
    /// # Errors
    /// When there are none, or one of them is not as this version of scx_ml writes them.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let kind = std::fs::metadata(path).map_err(|e| at(path, e))?;
        let (segments, loss_files) = if kind.is_dir() {
            let segments = files::<Sample>(path)?;
            if segments.is_empty() {
                return Err(no_segments(path)?);
            }
            (segments, files::<Loss>(path)?)
        } else {
            (vec![path.to_path_buf()], vec![])
        };

        let mut origin = None;
        let mut samples: Vec<Sample> = read_all(&segments, &mut origin)?;
        let mut losses: Vec<Loss> = read_all(&loss_files, &mut origin)?;
        let Some((_, meta)) = origin else {
            return Err(RecordingError::NoSegments(path.to_path_buf()));
        };

        let all = samples.len();
        samples.retain(plausible);
        let implausible = (all - samples.len()) as u64;
        if implausible > 0 {
            warn!(
                "{}: {implausible} of {all} samples cannot be true and are left out",
                path.display()
            );
        }
        samples.sort_by_key(|s| s.0.end_ns);
        losses.sort_by_key(|l| l.start_ns);
        Ok(Self {
            meta,
            samples,
            losses,
            implausible,
        })
    }

    /// What became of all bursts: the sum of the losses.
    pub fn total(&self) -> Loss {
        let mut total = Loss::default();
        self.losses.iter().for_each(|l| total.add(l));
        total
    }
}

fn plausible(sample: &Sample) -> bool {
    let s = &sample.0;
    s.wake_ns <= s.end_ns && s.burst_ns <= BURST_NS_MAX && s.repeat > 0
}

fn at(path: &Path, source: io::Error) -> RecordingError {
    RecordingError::Io {
        path: path.to_path_buf(),
        source,
    }
}

/// The files of one table in a folder, by number.
fn files<R: Row>(dir: &Path) -> Result<Vec<PathBuf>, RecordingError> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).map_err(|e| at(dir, e))? {
        let name = entry.map_err(|e| at(dir, e))?.file_name();
        let number = name
            .to_str()
            .and_then(|n| n.strip_prefix(R::TABLE)?.strip_prefix('-'))
            .and_then(|n| n.strip_suffix(".parquet"))
            .filter(|n| n.len() >= 6 && n.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|n| n.parse::<u32>().ok());
        if let Some(number) = number {
            found.push((number, dir.join(name)));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Whether a folder holds anything of a recording, complete or not.
///
/// # Errors
/// When it cannot be listed.
pub fn holds_recording(dir: &Path) -> io::Result<bool> {
    let tables = [Sample::TABLE, Loss::TABLE];
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let ours = tables
            .iter()
            .filter_map(|t| name.strip_prefix(t)?.strip_prefix('-'))
            .any(|rest| rest.ends_with(".parquet") || rest.ends_with(".parquet.tmp"));
        if ours {
            return Ok(true);
        }
    }
    Ok(false)
}

fn no_segments(dir: &Path) -> Result<RecordingError, RecordingError> {
    let first = dir.join(file_name::<Sample>(0));
    Ok(if unfinished(&first).exists() {
        RecordingError::Unfinished(dir.to_path_buf())
    } else {
        RecordingError::NoSegments(dir.to_path_buf())
    })
}

/// Read the files of a table; all must be of the recording that the first file of all is of.
fn read_all<R: Row>(
    files: &[PathBuf],
    origin: &mut Option<(PathBuf, Meta)>,
) -> Result<Vec<R>, RecordingError> {
    let mut rows = vec![];
    for path in files {
        let meta = read_file(path, &mut rows)?;
        match origin {
            None => *origin = Some((path.clone(), meta)),
            Some((first, expected)) => {
                let differs = expected
                    .pairs()
                    .into_iter()
                    .zip(meta.pairs())
                    .find(|(a, b)| a != b);
                if let Some(((what, _), _)) = differs {
                    return Err(RecordingError::Mixed {
                        path: path.clone(),
                        first: first.clone(),
                        what,
                    });
                }
            }
        }
    }
    Ok(rows)
}

/// Read one file; its rows go behind `rows`.
fn read_file<R: Row>(path: &Path, rows: &mut Vec<R>) -> Result<Meta, RecordingError> {
    let file = File::open(path).map_err(|e| at(path, e))?;
    let found = file.metadata().map_err(|e| at(path, e))?.len();
    if found > FILE_BYTES_MAX {
        return Err(RecordingError::TooLarge {
            path: path.to_path_buf(),
            found,
        });
    }
    let mut bytes = Vec::with_capacity(found as usize);
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|e| at(path, e))?;
    seal::check(&bytes).map_err(|broken| match broken {
        Broken::NotParquet => RecordingError::NotParquet(path.to_path_buf()),
        Broken::Truncated => RecordingError::Truncated(path.to_path_buf()),
        Broken::Foreign => RecordingError::Foreign(path.to_path_buf()),
        Broken::Damaged => RecordingError::Damaged {
            path: path.to_path_buf(),
            what: "its checksum is not that of its content".into(),
        },
    })?;
    decode(path, bytes, rows)
}

/// Decode a file whose seal is whole. A panic of the Parquet library becomes an error here.
pub(super) fn decode<R: Row>(
    path: &Path,
    bytes: Vec<u8>,
    rows: &mut Vec<R>,
) -> Result<Meta, RecordingError> {
    let reader = Decoder { path };
    catch_unwind(AssertUnwindSafe(|| reader.file(bytes, rows)))
        .unwrap_or_else(|_| Err(reader.damaged("the Parquet library cannot cope with it")))
}

struct Decoder<'a> {
    path: &'a Path,
}

impl Decoder<'_> {
    fn damaged(&self, what: impl ToString) -> RecordingError {
        RecordingError::Damaged {
            path: self.path.to_path_buf(),
            what: what.to_string(),
        }
    }

    fn value(&self, row: u64, what: impl ToString) -> RecordingError {
        RecordingError::Value {
            path: self.path.to_path_buf(),
            row,
            what: what.to_string(),
        }
    }

    fn file<R: Row>(&self, bytes: Vec<u8>, rows: &mut Vec<R>) -> Result<Meta, RecordingError> {
        let reader = SerializedFileReader::new(Bytes::from(bytes)).map_err(|e| self.damaged(e))?;
        let metadata = reader.metadata().file_metadata();
        let meta = self.meta::<R>(metadata)?;
        let places = self.places::<R>(metadata, &meta)?;

        let in_file = u64::try_from(metadata.num_rows())
            .map_err(|_| self.damaged("it says to have less than no rows"))?;
        let all = in_file.saturating_add(rows.len() as u64);
        if all > ROWS_MAX {
            return Err(RecordingError::TooManyRows {
                path: self.path.to_path_buf(),
                rows: all,
                limit: ROWS_MAX,
            });
        }

        let before = rows.len();
        for i in 0..reader.num_row_groups() {
            let group = reader.get_row_group(i).map_err(|e| self.damaged(e))?;
            let first_row = (rows.len() - before) as u64;
            let in_group = u64::try_from(group.metadata().num_rows())
                .ok()
                .filter(|n| *n <= GROUP_ROWS as u64 && n.saturating_add(first_row) <= in_file)
                .ok_or_else(|| self.damaged("its row groups are not as scx_ml writes them"))?;
            let start = rows.len();
            rows.resize(start + in_group as usize, R::zeroed());
            for (column, &place) in R::columns().iter().zip(&places) {
                self.column(&*group, place, column, first_row, &mut rows[start..])?;
            }
        }
        if (rows.len() - before) as u64 != in_file {
            return Err(self.damaged("its row groups do not add up"));
        }
        for (row, content) in rows[before..].iter().enumerate() {
            if let Some(flaw) = content.flaw() {
                return Err(self.value(row as u64, flaw));
            }
        }
        Ok(meta)
    }

    /// What the file says about itself: one of ours, of this format, table and set of features?
    fn meta<R: Row>(&self, metadata: &FileMetaData) -> Result<Meta, RecordingError> {
        let pairs = metadata.key_value_metadata();
        let get = |key: &str| -> Option<String> {
            pairs?
                .iter()
                .find(|p| p.key.strip_prefix(PREFIX) == Some(key))
                .and_then(|p| p.value.clone())
        };
        let path = || self.path.to_path_buf();
        let found = get("format").ok_or_else(|| RecordingError::Foreign(path()))?;
        if found != FORMAT {
            return Err(RecordingError::Format {
                path: path(),
                found,
                version: get("version").unwrap_or_else(|| "unknown".into()),
            });
        }
        let meta = Meta::from_pairs(&get).map_err(|what| self.damaged(what))?;
        if meta.feature_set != features::set_id() {
            return Err(RecordingError::FeatureSet {
                path: path(),
                version: meta.version,
            });
        }
        let found = get("table").unwrap_or_else(|| "nothing".into());
        if found != R::TABLE {
            return Err(RecordingError::Table {
                path: path(),
                found,
                expected: R::TABLE,
            });
        }
        Ok(meta)
    }

    /// Where each column of ours is among the file's, which must be the same ones.
    fn places<R: Row>(
        &self,
        metadata: &FileMetaData,
        meta: &Meta,
    ) -> Result<Vec<usize>, RecordingError> {
        let odd = |column: &str, found: String, expected: String| RecordingError::Column {
            path: self.path.to_path_buf(),
            column: column.to_string(),
            found,
            expected,
            version: meta.version.clone(),
        };
        let fields = metadata.schema().get_fields();
        let ours = R::columns();
        if let Some(more) = fields
            .iter()
            .find(|f| ours.iter().all(|c| c.name != f.name()))
        {
            return Err(odd(more.name(), "there".into(), "among the columns".into()));
        }
        ours.iter()
            .map(|c| {
                let expected = describe(c.kind.physical(), c.kind.logical(), true);
                let (place, field) = fields
                    .iter()
                    .enumerate()
                    .find(|(_, f)| f.name() == c.name)
                    .ok_or_else(|| odd(c.name, "missing".into(), expected.clone()))?;
                if !field.is_primitive() {
                    return Err(odd(c.name, "a group".into(), expected));
                }
                let info = field.get_basic_info();
                let found = describe(
                    field.get_physical_type(),
                    info.logical_type_ref().cloned(),
                    info.has_repetition() && info.repetition() == Repetition::REQUIRED,
                );
                if found != expected {
                    return Err(odd(c.name, found, expected));
                }
                Ok(place)
            })
            .collect()
    }

    /// Read a column of a row group into its field of each row. `first_row` is the group's first, for messages.
    fn column<R: Row>(
        &self,
        group: &dyn RowGroupReader,
        place: usize,
        column: &Column,
        first_row: u64,
        rows: &mut [R],
    ) -> Result<(), RecordingError> {
        let reader = group
            .get_column_reader(place)
            .map_err(|e| self.damaged(e))?;
        let short = || self.damaged(format!("column {} has not all rows", column.name));
        let field = column.offset..column.offset + column.kind.size();
        match (reader, column.kind) {
            (ColumnReader::Int64ColumnReader(reader), Kind::U64) => {
                let values = values(reader, rows.len()).map_err(|e| self.damaged(e))?;
                let values = values.ok_or_else(short)?;
                for (row, v) in rows.iter_mut().zip(values) {
                    row.bytes_mut()[field.clone()].copy_from_slice(&v.to_ne_bytes());
                }
            }
            (ColumnReader::Int32ColumnReader(reader), Kind::U32 | Kind::S32) => {
                let values = values(reader, rows.len()).map_err(|e| self.damaged(e))?;
                let values = values.ok_or_else(short)?;
                for (row, v) in rows.iter_mut().zip(values) {
                    row.bytes_mut()[field.clone()].copy_from_slice(&v.to_ne_bytes());
                }
            }
            (ColumnReader::Int32ColumnReader(reader), Kind::S16) => {
                let values = values(reader, rows.len()).map_err(|e| self.damaged(e))?;
                let values = values.ok_or_else(short)?;
                for (i, (row, v)) in rows.iter_mut().zip(values).enumerate() {
                    let v = i16::try_from(v).map_err(|_| {
                        let what = format!("{} is {v}, beyond 16 bits", column.name);
                        self.value(first_row + i as u64, what)
                    })?;
                    row.bytes_mut()[field.clone()].copy_from_slice(&v.to_ne_bytes());
                }
            }
            (ColumnReader::ByteArrayColumnReader(reader), Kind::Text(_)) => {
                let values = values(reader, rows.len()).map_err(|e| self.damaged(e))?;
                let values = values.ok_or_else(short)?;
                for (i, (row, v)) in rows.iter_mut().zip(values).enumerate() {
                    if !unescape(v.data(), &mut row.bytes_mut()[field.clone()]) {
                        let what = format!(
                            "{} is '{}', which is no name of a task",
                            column.name,
                            String::from_utf8_lossy(v.data()).escape_debug()
                        );
                        return Err(self.value(first_row + i as u64, what));
                    }
                }
            }
            _ => return Err(self.damaged(format!("column {} has two types", column.name))),
        }
        Ok(())
    }
}

/// A column's type, for comparing and for people.
fn describe(
    physical: parquet::basic::Type,
    logical: Option<parquet::basic::LogicalType>,
    required: bool,
) -> String {
    let logical = logical.map_or(String::new(), |l| format!(" ({l:?})"));
    let required = if required { "" } else { ", nullable" };
    format!("{physical}{logical}{required}")
}

/// All values of a column chunk; None if there are not as many.
fn values<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    expected: usize,
) -> Result<Option<Vec<T::T>>, ParquetError> {
    let mut values = vec![];
    while values.len() < expected {
        let (_, read, _) = reader.read_records(expected - values.len(), None, None, &mut values)?;
        if read == 0 {
            return Ok(None);
        }
    }
    Ok((values.len() == expected).then_some(values))
}
