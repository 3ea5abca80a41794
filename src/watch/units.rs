//! Numbers as people write them.

/// A time with three digits: "812 ns", "3.20 us", "1.05 ms", "18.3 min".
pub fn duration(ns: u64) -> String {
    const UNITS: [(f64, &str); 6] = [
        (1e3, "us"),
        (1e6, "ms"),
        (1e9, "s"),
        (60e9, "min"),
        (3600e9, "h"),
        (86_400e9, "d"),
    ];
    let ns_f = ns as f64;
    // 999.9 us would be written as 1000 us.
    let unit = UNITS.iter().rev().find(|(size, _)| ns_f >= size * 0.9995);
    match unit {
        Some((size, unit)) => format!("{} {unit}", three_digits(ns_f / size)),
        None => format!("{ns} ns"),
    }
}

/// A time with its sign, if it is below zero.
pub fn signed_duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    format!("{sign}{}", duration(ns.unsigned_abs()))
}

fn three_digits(x: f64) -> String {
    let decimals = match x {
        x if x < 9.995 => 2,
        x if x < 99.95 => 1,
        _ => 0,
    };
    format!("{x:.decimals$}")
}

/// What a feature stands for, from what is stored of it (`record.h`: its unit, and log2 of the quantity or a flag).
pub fn feature(unit: &str, log2: f64) -> String {
    match unit {
        // log2(0) is taken as 0: a nanosecond cannot be told from none.
        "log2(ns)" if log2 <= 0.0 => "0 ns".into(),
        // Rust's conversion from float saturates.
        "log2(ns)" => duration(log2.exp2().round() as u64),
        "log2(count)" => format!("{}", (log2.exp2() - 1.0).max(0.0).round() as u64),
        "log2(share)" => format!("{} %", three_digits(100.0 * log2.exp2())),
        "log2" => three_digits(log2.exp2()),
        "flag" => if log2 == 0.0 { "no" } else { "yes" }.into(),
        "octaves" => format!("{log2:.2} octaves"),
        _ => format!("{log2:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::native;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (3_204, "3.20 us"),
            (99_960, "100 us"),
            (999_900, "1.00 ms"),
            (20_000_000, "20.0 ms"),
            (59_000_000_000, "59.0 s"),
            (1 << 40, "18.3 min"),
            (2 * 86_400_000_000_000, "2.00 d"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text);
        }
        assert!(duration(u64::MAX).ends_with(" d"));
        assert_eq!(signed_duration(-1_500_000), "-1.50 ms");
        assert_eq!(signed_duration(i64::MIN), format!("-{}", duration(1 << 63)));
    }

    #[test]
    fn a_feature_is_written_in_its_own_unit() {
        assert_eq!(feature("log2(ns)", 20.0), "1.05 ms");
        assert_eq!(feature("log2(ns)", 0.0), "0 ns");
        assert_eq!(feature("log2(count)", 0.0), "0");
        assert_eq!(feature("log2(count)", 3.0), "7");
        assert_eq!(feature("log2(share)", -1.0), "50.0 %");
        assert_eq!(feature("flag", 1.0), "yes");
        assert_eq!(feature("log2(ns)", 128.0), duration(u64::MAX));
    }

    #[test]
    fn every_feature_has_a_unit_that_is_known() {
        for f in native::FEATURES.iter() {
            assert_ne!(feature(f.unit, 2.0), "2.000", "{}: {}", f.name, f.unit);
        }
    }
}
