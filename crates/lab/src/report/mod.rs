//! Reports: what people read.

mod axis;
pub mod growth;
pub mod html;
pub mod matrix;
pub mod moved;
mod page;
pub mod plot;
mod programs;
mod small;
pub mod table;

use crate::metric::Better;

/// The direction that is better, as an arrow.
pub fn direction(better: Better) -> &'static str {
    match better {
        Better::Lower => "↓",
        Better::Higher => "↑",
        Better::Neither => "",
    }
}

/// A number with three significant digits, without an exponent where that stays readable.
pub fn number(v: f64) -> String {
    if !v.is_finite() {
        return "–".to_string();
    }
    let magnitude = v.abs();
    if magnitude == 0.0 {
        "0".to_string()
    } else if magnitude >= 100.0 {
        group_thousands(v.round())
    } else {
        let decimals = (2 - magnitude.log10().floor() as i32).clamp(0, 6) as usize;
        format!("{v:.decimals$}")
    }
}

fn group_thousands(v: f64) -> String {
    let digits = format!("{:.0}", v.abs());
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(' ');
        }
        out.push(c);
    }
    if v < 0.0 { format!("-{out}") } else { out }
}

/// A ratio: three significant digits around 1.
pub fn ratio(v: f64) -> String {
    if v >= 10.0 {
        number(v)
    } else {
        format!("{v:.3}")
    }
}

/// A ratio in as few characters as tell it from 1.
pub fn brief(v: f64) -> String {
    match v {
        v if !v.is_finite() => "–".to_string(),
        v if v >= 9.995 => number(v),
        v if v < 0.0995 => format!("{v:.3}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        for (v, want) in [
            (0.0, "0"),
            (0.01234, "0.0123"),
            (1.5, "1.50"),
            (23.456, "23.5"),
            (999.6, "1 000"),
            (1234567.0, "1 234 567"),
            (-1234.0, "-1 234"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(v), want);
        }
    }
    #[test]
    fn brief_ratios_are_short() {
        for (v, want) in [
            (1.0, "1.00"),
            (0.4321, "0.43"),
            (0.0432, "0.043"),
            (12.34, "12.3"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(brief(v), want);
        }
    }
}
