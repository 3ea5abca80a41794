//! A drawn frame as plain text, and numbers in few letters.

use ratatui::buffer::Buffer;

/// The frame's rows without colours and without blanks at the end.
pub fn lines(buf: &Buffer) -> Vec<String> {
    let width = usize::from(buf.area.width).max(1);
    buf.content
        .chunks(width)
        .map(|row| {
            let row: String = row.iter().map(|cell| cell.symbol()).collect();
            row.trim_end().to_string()
        })
        .collect()
}

/// A count with three digits: "0", "7.25", "312", "12.3k", "4.56M".
pub fn count(x: f64) -> String {
    let (x, unit) = match x {
        x if x >= 999.5e6 => (x / 1e9, "G"),
        x if x >= 999.5e3 => (x / 1e6, "M"),
        x if x >= 999.5 => (x / 1e3, "k"),
        x => (x, ""),
    };
    let decimals = match x {
        0.0 => 0,
        x if x < 9.995 => 2,
        x if x < 99.95 => 1,
        _ => 0,
    };
    format!("{x:.decimals$}{unit}")
}

/// Hours, minutes and seconds: "1:02:03", "2 d 1:02:03".
pub fn clock(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    let time = format!("{}:{:02}:{:02}", s / 3600 % 24, s / 60 % 60, s % 60);
    match s / 86_400 {
        0 => time,
        days => format!("{days} d {time}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.5, "0.50"),
            (7.25, "7.25"),
            (99.96, "100"),
            (312.4, "312"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (4.56e6, "4.56M"),
            (7e12, "7000G"),
        ];
        for (x, text) in cases {
            assert_eq!(count(x), text);
        }
    }

    #[test]
    fn times_are_written_as_on_a_clock() {
        assert_eq!(clock(0.9), "0:00:00");
        assert_eq!(clock(3_723.0), "1:02:03");
        assert_eq!(clock(2.0 * 86_400.0 + 61.0), "2 d 0:01:01");
        assert_eq!(clock(-1.0), "0:00:00");
    }
}
