//! Strict reading of TOML tables: an unknown key is an error that names the nearest valid one.
//!
//! The known keys of a parameter struct are taken from the serialised form of its default, so that they are written
//! down once, in the struct.

use crate::error::{LabError, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The candidate closest to `word`, if any is close enough to be a likely slip.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(word, c), c))
        .filter(|(d, c)| *d <= 3.min(1 + c.len().max(word.len()) / 3))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c.to_string())
}

/// The keys of `T` with their default values, in the order of the struct.
pub fn known_keys<T: Serialize + Default>() -> Vec<(String, String)> {
    match serde_json::to_value(T::default()) {
        Ok(serde_json::Value::Object(map)) => map
            .into_iter()
            .map(|(k, v)| {
                let shown = match v {
                    serde_json::Value::Null => "(none)".to_string(),
                    serde_json::Value::String(s) => s,
                    other => other.to_string(),
                };
                (k, shown)
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Fail on the first key of `table` that is not among `known`. `place` says where, for the message.
pub fn check_keys(table: &toml::Table, known: &[&str], place: &str) -> Result<()> {
    for key in table.keys() {
        if !known.contains(&key.as_str()) {
            return Err(LabError::UnknownKey {
                key: key.clone(),
                place: place.to_string(),
                nearest: nearest(key, known.iter().copied()),
            });
        }
    }
    Ok(())
}

/// Read `table` into `T`, refusing unknown keys and wrong types. Absent keys keep their defaults.
pub fn read<T: Serialize + DeserializeOwned + Default>(
    table: &toml::Table,
    place: &str,
) -> Result<T> {
    let known = known_keys::<T>();
    let names: Vec<&str> = known.iter().map(|(k, _)| k.as_str()).collect();
    check_keys(table, &names, place)?;
    // Through the default, so that T needs no #[serde(default)] of its own and nothing can be forgotten.
    let mut merged = match toml::Value::try_from(T::default()) {
        Ok(toml::Value::Table(t)) => t,
        _ => toml::Table::new(),
    };
    for (k, v) in table {
        // 5 where 5.0 is meant is no mistake.
        let v = match (merged.get(k), v) {
            (Some(toml::Value::Float(_)), toml::Value::Integer(i)) => toml::Value::Float(*i as f64),
            // On the command line `command=false` names a program.
            (Some(toml::Value::String(_)), toml::Value::Boolean(_) | toml::Value::Integer(_)) => {
                toml::Value::String(v.to_string())
            }
            _ => v.clone(),
        };
        merged.insert(k.clone(), v);
    }
    toml::Value::Table(merged)
        .try_into()
        .map_err(|e: toml::de::Error| LabError::BadValue {
            place: place.to_string(),
            why: e.message().to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    struct Params {
        load: f64,
        workers: usize,
        extra: Option<String>,
    }

    impl Default for Params {
        fn default() -> Self {
            Self {
                load: 0.8,
                workers: 4,
                extra: None,
            }
        }
    }

    fn table(text: &str) -> toml::Table {
        text.parse().expect("test TOML")
    }

    #[test]
    fn absent_keys_keep_their_defaults_and_integers_do_for_floats() {
        let p: Params = read(&table("load = 1"), "test").expect("valid");
        assert_eq!(
            p,
            Params {
                load: 1.0,
                workers: 4,
                extra: None
            }
        );
    }

    #[test]
    fn an_optional_key_is_known_though_its_default_is_absent() {
        let p: Params = read(&table("extra = 'x'"), "test").expect("valid");
        assert_eq!(p.extra.as_deref(), Some("x"));
    }

    #[test]
    fn a_misspelt_key_is_an_error_with_the_nearest_one() {
        let err = read::<Params>(&table("wrokers = 3"), "workload `x`").expect_err("must fail");
        assert_eq!(
            err.to_string(),
            "unknown key `wrokers` in workload `x`; did you mean `workers`?"
        );
    }

    #[test]
    fn a_key_like_no_other_gets_no_suggestion() {
        let err = read::<Params>(&table("temperature = 3"), "t").expect_err("must fail");
        assert_eq!(err.to_string(), "unknown key `temperature` in t");
    }

    #[test]
    fn a_wrong_type_says_where() {
        let err =
            read::<Params>(&table("workers = 'many'"), "workload `x`").expect_err("must fail");
        assert!(err.to_string().starts_with("workload `x`: "), "{err}");
    }
}
