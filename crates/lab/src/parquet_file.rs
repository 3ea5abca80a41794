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
    required int32 cpus;
    required binary boot_id (UTF8);
    required binary kernel (UTF8);
    required binary started (UTF8);
}";

/// Write all metrics of the cells that went well. Where there are several runs, numbers of blocks are each one's own.
///
/// # Errors
/// If the file cannot be written.
pub fn write(runs: &[&Run], path: &Path) -> Result<()> {
    let bytes = encode(runs).map_err(|e| LabError::Damaged {
        path: path.to_path_buf(),
        why: e.to_string(),
    })?;
    write_whole(path, &bytes)
}

/// The file's content.
fn encode(runs: &[&Run]) -> std::result::Result<Vec<u8>, ParquetError> {
    let kernels: Vec<(&str, &str)> = runs
        .iter()
        .flat_map(|run| &run.provenance)
        .map(|p| (p.boot_id.as_str(), p.kernel.as_str()))
        .collect();
    let cells = runs
        .iter()
        .flat_map(|run| run.cells.iter().map(|c| (run.cpus().unwrap_or(0), c)));
    let (cpus, rows): (Vec<i32>, Vec<_>) = cells
        .filter(|(_, c)| c.status == Status::Ok)
        .flat_map(|(cpus, c)| {
            let metrics = c.metrics().into_iter();
            metrics.map(move |m| (cpus as i32, (c, m)))
        })
        .unzip();
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
    column::<Int32Type>(&mut group, &cpus)?;
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
    use crate::bench::tests::{finished_run, metric_value, on_cpus};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    #[test]
    fn what_is_written_can_be_read_back() {
        let dir = tempfile::tempdir().expect("tempdir");
        let run = finished_run(dir.path(), 2);
        let (two, four) = (on_cpus(run.clone(), 2), on_cpus(run.clone(), 4));
        let path = dir.path().join("r.parquet");
        write(&[&two, &four], &path).expect("writable");
        let reader =
            SerializedFileReader::new(std::fs::File::open(&path).expect("file")).expect("parquet");
        let rows: Vec<_> = reader
            .get_row_iter(None)
            .expect("rows")
            .map(|r| r.expect("row"))
            .collect();
        assert_eq!(
            rows.len(),
            2 * run.cells.iter().map(|c| c.metrics().len()).sum::<usize>()
        );
        let first = &run.cells[0];
        assert_eq!(rows[0].get_string(2).expect("text"), &first.cell.scheduler);
        assert_eq!(rows[0].get_double(8).expect("number"), metric_value(first));
        let cpus: Vec<i32> = rows.iter().filter_map(|r| r.get_int(9).ok()).collect();
        assert_eq!(cpus[..rows.len() / 2], vec![2; rows.len() / 2]);
        assert_eq!(cpus[rows.len() / 2..], vec![4; rows.len() / 2]);
    }
}
