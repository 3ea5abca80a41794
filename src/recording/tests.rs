//! There and back: what is written is read, and what is not as it was written is refused.

use std::path::Path;

use parquet::basic::Repetition;
use parquet::data_type::Int32Type;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};
use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::decode::decode;
use super::schema::{Row, metadata, parquet_schema};
use super::seal::{self, Sealing};
use super::write::{Writer, file_name, write_file};
use super::*;
use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::sample::Sample;

pub(super) fn meta() -> Meta {
    Meta::here("0.0.0 test", "learn", 1000, false)
}

/// Bytes that look random, always the same ones.
fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// A sample with every bit of it at random, as far as it is one.
pub(super) fn sample(seed: u64) -> Sample {
    let mut noise = noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut sample = Sample::new_zeroed();
    for c in Sample::columns() {
        let field = c.offset..c.offset + c.kind.size();
        for byte in &mut sample.as_mut_bytes()[field] {
            *byte = (noise() >> 32) as u8;
        }
    }
    sample.0.class %= NR_CLASSES as u32;
    sample.0.burst_ns %= 1 << 40;
    sample.0.repeat |= 1;
    sample.0.wake_ns >>= 1;
    sample.0.end_ns = sample.0.wake_ns + (noise() >> 1);
    sample
}

/// A sample as they are: a worker with short bursts.
pub(super) fn plain(end_ns: u64) -> Sample {
    let mut sample = Sample::new_zeroed();
    sample.0.wake_ns = end_ns.saturating_sub(1_000_000);
    sample.0.end_ns = end_ns;
    sample.0.burst_ns = 300_000;
    sample.0.repeat = 1;
    for (to, from) in sample.0.comm.iter_mut().zip(b"worker") {
        *to = *from as _;
    }
    sample
}

fn file_of<R: Row>(rows: &[R]) -> Vec<u8> {
    let mut out = std::io::Cursor::new(vec![]);
    let mut writer = Writer::<_, R>::new(&mut out, &meta()).expect("memory");
    writer.write(rows).expect("memory");
    writer.finish().expect("memory");
    out.into_inner()
}

fn segment(dir: &Path, number: u32, meta: &Meta, rows: &[Sample]) {
    write_file(&dir.join(file_name::<Sample>(number)), meta, rows).expect("written");
}

/// What reading says, as text; None if it goes well.
fn refusal(path: &Path) -> Option<String> {
    Recording::read(path).err().map(|e| e.to_string())
}

/// That reading this file as a segment fails with these words, and names the file.
fn refused(bytes: &[u8], words: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(file_name::<Sample>(0));
    std::fs::write(&path, bytes).expect("written");
    let error = refusal(dir.path()).unwrap_or_else(|| panic!("read, though {words}"));
    assert!(error.contains(words), "{error}");
    assert!(error.contains("samples-000000.parquet"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn samples_come_back_bit_for_bit(seeds in prop::collection::vec(any::<u64>(), 0..200), cut in 0usize..200) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut samples: Vec<Sample> = seeds.into_iter().map(sample).collect();
        let (first, second) = samples.split_at(cut.min(samples.len()));
        let meta = meta();
        segment(dir.path(), 0, &meta, first);
        segment(dir.path(), 1, &meta, second);
        let losses = [Loss { start_ns: 1, end_ns: u64::MAX, bursts: 3, ..Default::default() }];
        write_file(&dir.path().join(file_name::<Loss>(0)), &meta, &losses).expect("written");

        let back = Recording::read(dir.path()).expect("readable");
        prop_assert_eq!(&back.meta, &meta);
        prop_assert_eq!(back.losses, losses);
        samples.sort_by_key(|s| s.0.end_ns);
        prop_assert_eq!(back.samples.len(), samples.len());
        for (a, b) in back.samples.iter().zip(&samples) {
            prop_assert_eq!(a.as_bytes(), b.as_bytes());
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_and_nothing_worse(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let whole = file_of(&(0..300).map(sample).collect::<Vec<_>>());
        let mut bytes = whole.clone();
        for (place, byte) in changes {
            bytes[place.index(whole.len())] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(whole.len()));
        }
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("s.parquet");
        std::fs::write(&path, &bytes).expect("written");
        prop_assert_eq!(Recording::read(&path).is_ok(), bytes == whole);
    }
}

#[test]
fn more_rows_than_a_group_holds_come_back() {
    let samples: Vec<Sample> = (0..40_000).map(|i| plain(2_000_000 + i)).collect();
    let bytes = file_of(&samples);
    let mut back: Vec<Sample> = vec![];
    decode(Path::new("x"), bytes, &mut back).expect("readable");
    assert_eq!(back.len(), samples.len());
    assert!(
        back.iter()
            .zip(&samples)
            .all(|(a, b)| a.as_bytes() == b.as_bytes())
    );
}

#[test]
fn a_single_segment_can_be_read() {
    let dir = tempfile::tempdir().expect("a folder");
    segment(dir.path(), 7, &meta(), &[plain(9), plain(5)]);
    let back = Recording::read(&dir.path().join("samples-000007.parquet")).expect("readable");
    let ends: Vec<u64> = back.samples.iter().map(|s| s.0.end_ns).collect();
    assert_eq!(ends, [5, 9]);
}

#[test]
fn other_programs_see_types_and_units() {
    let bytes = bytes::Bytes::from(file_of(&[plain(7)]));
    let reader = SerializedFileReader::new(bytes).expect("Parquet");
    let metadata = reader.metadata().file_metadata();
    let row = reader
        .get_row_iter(None)
        .expect("rows")
        .next()
        .expect("a row")
        .expect("readable");
    let text = row.to_string();
    assert!(text.contains("comm: \"worker\""), "{text}");
    assert!(text.contains("burst_ns: 300000"), "{text}");
    let unit = metadata
        .key_value_metadata()
        .expect("metadata")
        .iter()
        .find(|p| p.key == "scx_ml.unit.wait_ns");
    assert_eq!(unit.and_then(|p| p.value.as_deref()), Some("ns"));
}

#[test]
fn samples_that_cannot_be_true_are_left_out_and_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut rows = [plain(1), plain(2), plain(3), plain(4)];
    rows[0].0.wake_ns = 10;
    rows[1].0.burst_ns = u64::MAX;
    rows[3].0.repeat = 0;
    segment(dir.path(), 0, &meta(), &rows);
    let back = Recording::read(dir.path()).expect("readable");
    assert_eq!((back.samples.len(), back.implausible), (1, 3));
}

#[test]
fn a_folder_without_segments_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let error = refusal(dir.path()).expect("nothing there");
    assert!(error.contains("no segments"), "{error}");
    std::fs::write(dir.path().join("samples-000000.parquet.tmp"), "PAR1").expect("written");
    let error = refusal(dir.path()).expect("nothing complete there");
    assert!(error.contains("only unfinished segments"), "{error}");
    let error = refusal(&dir.path().join("nowhere")).expect("nothing there");
    assert!(error.contains("nowhere: No such file"), "{error}");
}

#[test]
fn what_is_no_recording_is_refused() {
    refused(b"", "not a Parquet file");
    refused(b"wake_ns,end_ns\n", "not a Parquet file");
    let whole = file_of(&[plain(1)]);
    refused(&whole[..whole.len() - 1], "ends in the middle");
    refused(&whole[..12], "ends in the middle");

    let schema = parquet_schema::<Sample>().expect("a schema");
    let foreign = SerializedFileWriter::new(vec![], schema, Default::default())
        .and_then(SerializedFileWriter::into_inner)
        .expect("memory");
    refused(&foreign, "not one of scx_ml");
}

#[test]
fn a_flipped_bit_is_found() {
    let mut bytes = file_of(&[plain(1)]);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    refused(&bytes, "its checksum is not that of its content");
}

#[test]
fn a_row_of_no_class_is_refused_by_its_number() {
    let mut rows = [plain(1), plain(2), plain(3)];
    rows[2].0.class = NR_CLASSES as u32;
    refused(&file_of(&rows), "row 2 (0 is the first): its class is 4");
}

/// A file of ours with other metadata or another schema.
fn odd_file(change: impl Fn(&mut Vec<KeyValue>), schema: TypePtr) -> Vec<u8> {
    let mut pairs = metadata::<Sample>(&meta());
    change(&mut pairs);
    pairs.push(KeyValue::new(seal::KEY.to_string(), seal::OPEN.to_string()));
    let properties = WriterProperties::builder().set_key_value_metadata(Some(pairs));
    let mut out = std::io::Cursor::new(vec![]);
    SerializedFileWriter::new(Sealing::new(&mut out), schema, properties.build().into())
        .and_then(SerializedFileWriter::into_inner)
        .expect("memory")
        .seal()
        .expect("memory");
    out.into_inner()
}

#[test]
fn other_formats_features_and_tables_are_refused() {
    let with = |key: &'static str, value: &'static str| {
        let change = move |pairs: &mut Vec<KeyValue>| {
            for pair in pairs.iter_mut().filter(|p| p.key == key) {
                pair.value = Some(value.to_string());
            }
        };
        odd_file(change, parquet_schema::<Sample>().expect("a schema"))
    };
    refused(
        &with("scx_ml.format", "2"),
        "is of format 2, this scx_ml reads format 1",
    );
    refused(&with("scx_ml.format", "2"), "0.0.0 test");
    refused(
        &with("scx_ml.feature_set", "12"),
        "recorded by scx_ml 0.0.0 test with other features",
    );
    refused(
        &with("scx_ml.feature_set", "x"),
        "scx_ml.feature_set is 'x'",
    );
    refused(
        &with("scx_ml.table", "losses"),
        "a table of losses, not of samples",
    );
    refused(
        &odd_file(
            |pairs| pairs.retain(|p| p.key != "scx_ml.boot_id"),
            parquet_schema::<Sample>().expect("a schema"),
        ),
        "scx_ml.boot_id is missing",
    );
}

#[test]
fn missing_and_odd_columns_are_named() {
    let with = |change: &dyn Fn(&mut Vec<TypePtr>)| {
        let schema = parquet_schema::<Sample>().expect("a schema");
        let mut fields = schema.get_fields().to_vec();
        change(&mut fields);
        let schema = Type::group_type_builder("samples").with_fields(fields);
        odd_file(|_| (), schema.build().expect("a schema").into())
    };
    let column = |name: &str, kind, repetition| -> TypePtr {
        let column = Type::primitive_type_builder(name, kind).with_repetition(repetition);
        column.build().expect("a column").into()
    };
    use parquet::basic::Type::{DOUBLE, INT32};
    refused(&with(&|f| f.truncate(5)), "column cgroup_id is missing");
    refused(
        &with(&|f| f[2] = column("burst_ns", DOUBLE, Repetition::REQUIRED)),
        "column burst_ns is DOUBLE, not INT64 (Integer",
    );
    refused(
        &with(&|f| f[0] = column("colour", INT32, Repetition::REQUIRED)),
        "column colour is there",
    );
    let place = Sample::columns()
        .iter()
        .position(|c| c.name == "pred_q16")
        .expect("a column");
    refused(
        &with(&|f| f[place] = column("pred_q16", INT32, Repetition::OPTIONAL)),
        "column pred_q16 is INT32, nullable, not INT32;",
    );
}

#[test]
fn values_beyond_their_type_are_refused_by_their_row() {
    let schema = parquet_schema::<Sample>().expect("a schema");
    let feature = Sample::columns()
        .iter()
        .position(|c| c.kind == schema::Kind::S16)
        .expect("a feature");
    let mut pairs = metadata::<Sample>(&meta());
    pairs.push(KeyValue::new(seal::KEY.to_string(), seal::OPEN.to_string()));
    let properties = WriterProperties::builder().set_key_value_metadata(Some(pairs));
    let mut out = std::io::Cursor::new(vec![]);
    let mut writer =
        SerializedFileWriter::new(Sealing::new(&mut out), schema, properties.build().into())
            .expect("memory");
    let mut group = writer.next_row_group().expect("a group");
    for (i, c) in Sample::columns().iter().enumerate() {
        let mut column = group.next_column().expect("a column").expect("a column");
        use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
        match c.kind {
            schema::Kind::U64 => column.typed::<Int64Type>().write_batch(&[1, 1], None, None),
            schema::Kind::Text(_) => column.typed::<ByteArrayType>().write_batch(
                &[ByteArray::from("a"), ByteArray::from("b")],
                None,
                None,
            ),
            _ => {
                let second = if i == feature { 1 << 15 } else { 1 };
                column
                    .typed::<Int32Type>()
                    .write_batch(&[1, second], None, None)
            }
        }
        .expect("memory");
        column.close().expect("memory");
    }
    group.close().expect("memory");
    writer.into_inner().expect("memory").seal().expect("memory");
    refused(
        &out.into_inner(),
        "row 1 (0 is the first): last_burst is 32768",
    );
}

#[test]
fn segments_of_two_recordings_are_not_mixed() {
    let dir = tempfile::tempdir().expect("a folder");
    segment(dir.path(), 0, &meta(), &[plain(1)]);
    let other = Meta {
        boot_id: "another".into(),
        ..meta()
    };
    segment(
        dir.path(),
        1,
        &Meta {
            monotonic_to_unix_ns: 0,
            ..other
        },
        &[plain(2)],
    );
    let error = refusal(dir.path()).expect("mixed");
    assert!(
        error.contains("samples-000001.parquet is of another recording"),
        "{error}"
    );
    assert!(
        error.contains("samples-000000.parquet: boot_id differs"),
        "{error}"
    );
}

/// Behind the seal, where only forgery gets: random changes under a fresh checksum. The library's panics are caught;
/// what it allocates by a forged length is its own affair, so lengths in the footer are left alone.
#[test]
fn a_forged_file_is_an_error_or_a_recording() {
    let whole = file_of(&(0..300).map(sample).collect::<Vec<_>>());
    let footer = {
        let len = &whole[whole.len() - 8..whole.len() - 4];
        whole.len() - 8 - u32::from_le_bytes(len.try_into().expect("four bytes")) as usize
    };
    let mut noise = noise(1);
    for _ in 0..3_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + noise() % 4 {
            // Behind the magic number: without it the file is not read at all.
            bytes[4 + noise() as usize % (footer - 4)] = noise() as u8;
        }
        seal::reseal(&mut bytes);
        assert_eq!(seal::check(&bytes), Ok(()));
        let mut rows: Vec<Sample> = vec![];
        if decode(Path::new("x"), bytes, &mut rows).is_ok() {
            assert_eq!(rows.len(), 300);
        }
    }
}
