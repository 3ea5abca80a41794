//! Decoding one file of a recording. Nothing in it is taken for granted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;
use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::FileMetaData;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use scx_ml_text::Show;

use super::error::RecordingError;
use super::format::{FORMAT, PREFIX, ROWS_MAX};
use super::meta::Meta;
use super::name::unescape;
use super::schema::{Column, Kind, Row};
use super::write::GROUP_ROWS;
use crate::kernel::features;

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
            rows.resize(start + in_group as usize, R::new_zeroed());
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
                    row.as_mut_bytes()[field.clone()].copy_from_slice(&v.to_ne_bytes());
                }
            }
            (ColumnReader::Int32ColumnReader(reader), Kind::U32 | Kind::S32) => {
                let values = values(reader, rows.len()).map_err(|e| self.damaged(e))?;
                let values = values.ok_or_else(short)?;
                for (row, v) in rows.iter_mut().zip(values) {
                    row.as_mut_bytes()[field.clone()].copy_from_slice(&v.to_ne_bytes());
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
                    row.as_mut_bytes()[field.clone()].copy_from_slice(&v.to_ne_bytes());
                }
            }
            (ColumnReader::ByteArrayColumnReader(reader), Kind::Text(_)) => {
                let values = values(reader, rows.len()).map_err(|e| self.damaged(e))?;
                let values = values.ok_or_else(short)?;
                for (i, (row, v)) in rows.iter_mut().zip(values).enumerate() {
                    if !unescape(v.data(), &mut row.as_mut_bytes()[field.clone()]) {
                        let what = format!(
                            "{} is '{}', which is no name of a task",
                            column.name,
                            v.data().shown()
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
fn describe(physical: PhysicalType, logical: Option<LogicalType>, required: bool) -> String {
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
