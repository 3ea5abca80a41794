//! Results as Parquet: one row for each metric of each cell, for data frames.

use crate::error::{LabError, Result};
use crate::results::{Run, Status, write_whole};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use std::path::Path;
use std::sync::Arc;

const SCHEMA: &str = "
message results {
    required int32 cell;
    required int32 block;
    required binary scheduler (UTF8);
    required binary workload (UTF8);
    required binary metric (UTF8);
    required binary unit (UTF8);
    required binary better (UTF8);
    required boolean headline;
    required double value;
    required binary boot_id (UTF8);
    required binary kernel (UTF8);
    required binary started (UTF8);
}";

/// Write all metrics of the cells that went well.
///
/// # Errors
/// If the file cannot be written.
pub fn write(run: &Run, path: &Path) -> Result<()> {
    let bytes = encode(run).map_err(|e| LabError::Damaged {
        path: path.to_path_buf(),
        why: e.to_string(),
    })?;
    write_whole(path, &bytes)
}

/// The file's content.
fn encode(run: &Run) -> std::result::Result<Vec<u8>, ParquetError> {
    let kernels: Vec<(&str, &str)> = run
        .provenance
        .iter()
        .map(|p| (p.boot_id.as_str(), p.kernel.as_str()))
        .collect();
    let rows: Vec<_> = run
        .cells
        .iter()
        .filter(|c| c.status == Status::Ok)
        .flat_map(|c| c.metrics().into_iter().map(move |m| (c, m)))
        .collect();
    let kernel = |boot: &str| {
        kernels
            .iter()
            .find(|(b, _)| *b == boot)
            .map_or("", |(_, k)| *k)
            .to_string()
    };
    let text = |f: &dyn Fn(usize) -> String| -> Vec<ByteArray> {
        (0..rows.len())
            .map(|i| ByteArray::from(f(i).into_bytes()))
            .collect()
    };

    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(
        &mut out,
        schema,
        Arc::new(WriterProperties::builder().build()),
    )?;
    let mut group = writer.next_row_group()?;
    column::<Int32Type>(
        &mut group,
        &rows
            .iter()
            .map(|(c, _)| c.cell.index as i32)
            .collect::<Vec<_>>(),
    )?;
    column::<Int32Type>(
        &mut group,
        &rows
            .iter()
            .map(|(c, _)| c.cell.block as i32)
            .collect::<Vec<_>>(),
    )?;
    column::<ByteArrayType>(&mut group, &text(&|i| rows[i].0.cell.scheduler.clone()))?;
    column::<ByteArrayType>(&mut group, &text(&|i| rows[i].0.cell.workload.clone()))?;
    column::<ByteArrayType>(&mut group, &text(&|i| rows[i].1.def.name.clone()))?;
    column::<ByteArrayType>(&mut group, &text(&|i| rows[i].1.def.unit.clone()))?;
    column::<ByteArrayType>(
        &mut group,
        &text(&|i| format!("{:?}", rows[i].1.def.better).to_lowercase()),
    )?;
    column::<parquet::data_type::BoolType>(
        &mut group,
        &rows.iter().map(|(_, m)| m.def.headline).collect::<Vec<_>>(),
    )?;
    column::<DoubleType>(
        &mut group,
        &rows.iter().map(|(_, m)| m.value).collect::<Vec<_>>(),
    )?;
    column::<ByteArrayType>(&mut group, &text(&|i| rows[i].0.boot_id.clone()))?;
    column::<ByteArrayType>(&mut group, &text(&|i| kernel(&rows[i].0.boot_id)))?;
    column::<ByteArrayType>(&mut group, &text(&|i| rows[i].0.started.clone()))?;
    group.close()?;
    writer.close()?;
    Ok(out)
}

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    values: &[T::T],
) -> std::result::Result<(), ParquetError> {
    let mut column = group
        .next_column()?
        .ok_or_else(|| ParquetError::General("more columns than the schema has".to_string()))?;
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::{finished_run, metric_value};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    #[test]
    fn what_is_written_can_be_read_back() {
        let dir = tempfile::tempdir().expect("tempdir");
        let run = finished_run(dir.path(), 2);
        let path = dir.path().join("r.parquet");
        write(&run, &path).expect("writable");
        let reader =
            SerializedFileReader::new(std::fs::File::open(&path).expect("file")).expect("parquet");
        let rows: Vec<_> = reader
            .get_row_iter(None)
            .expect("rows")
            .map(|r| r.expect("row"))
            .collect();
        assert_eq!(
            rows.len(),
            run.cells.iter().map(|c| c.metrics().len()).sum::<usize>()
        );
        let first = &run.cells[0];
        assert_eq!(rows[0].get_string(2).expect("text"), &first.cell.scheduler);
        assert_eq!(rows[0].get_double(8).expect("number"), metric_value(first));
    }
}
