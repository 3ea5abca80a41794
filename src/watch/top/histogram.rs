//! A histogram by powers of two, as bars side by side.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::widgets::Widget;

/// A cell that is filled up to so many eighths.
pub const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// Buckets that are shown even if they are empty: 1 us to 67 ms.
const FIRST_SHOWN: usize = 10;
const LAST_SHOWN: usize = 25;

/// Buckets from these on are no longer good, or bad: 1 ms and 17 ms.
const SLOW: usize = 20;
const BAD: usize = 24;

/// The widest bar, its gap included.
const BAR_WIDTH_MAX: usize = 5;

/// Bucket i counts what took 2^i to below 2^(i+1) ns.
pub struct Bars<'a> {
    pub counts: &'a [u64],
    pub colour: bool,
}

/// Lower bound of a bucket in a few letters: "1us", "16ms".
fn label(bucket: usize) -> String {
    let ns = 1u64 << bucket.min(63);
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}us", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{}ms", ns / 1_000_000),
        _ => format!("{}s", ns / 1_000_000_000),
    }
}

impl Widget for Bars<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        if area.width == 0 || area.height < 2 {
            return;
        }
        let used = |(_, count): &(usize, &u64)| **count > 0;
        let mut buckets = self.counts.iter().enumerate().filter(used).map(|(i, _)| i);
        let first = buckets.next().unwrap_or(FIRST_SHOWN);
        let last = buckets.next_back().unwrap_or(first).max(LAST_SHOWN);
        // Of a row that is too short for all, the end matters more.
        let first = first
            .min(FIRST_SHOWN)
            .max((last + 1).saturating_sub(area.width.into()));
        let width = (usize::from(area.width) / (last + 1 - first)).clamp(1, BAR_WIDTH_MAX);
        let height = area.height - 1;
        let most = self.counts.iter().copied().max().unwrap_or(0).max(1);

        let mut label_from = 0;
        for bucket in first..=last {
            let x = (bucket - first) * width;
            let count = self.counts.get(bucket).copied().unwrap_or(0);
            // The least count can still be seen.
            let eighths = (count as f64 / most as f64 * f64::from(height) * 8.0).ceil() as usize;
            let style = match bucket {
                _ if !self.colour => Style::new(),
                BAD.. => Style::new().fg(Color::Red),
                SLOW.. => Style::new().fg(Color::Yellow),
                _ => Style::new().fg(Color::Green),
            };
            for row in 0..height {
                let filled = eighths.saturating_sub(usize::from(row) * 8).min(8);
                let bar = EIGHTHS[filled].repeat(width.max(2) - 1);
                let y = area.bottom() - 2 - row;
                buf.set_string(area.x + x as u16, y, bar, style);
            }
            let text = label(bucket);
            if x >= label_from && x + text.len() <= area.width.into() {
                label_from = x + text.len() + 1;
                buf.set_string(area.x + x as u16, area.bottom() - 1, text, Style::new());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(counts: &[u64], width: u16, height: u16) -> Vec<String> {
        let area = Rect::new(0, 0, width, height);
        let mut buf = Buffer::empty(area);
        Bars {
            counts,
            colour: false,
        }
        .render(area, &mut buf);
        super::super::text::lines(&buf)
    }

    #[test]
    fn bars_stand_over_their_times() {
        let mut counts = vec![0; 64];
        (counts[10], counts[12], counts[20]) = (1000, 500, 1);
        let expected = [
            "██",
            "██    ▄▄",
            "██    ██                      ▁▁",
            "1us   4us   16us  65us  262us 1ms   4ms   16ms",
        ];
        assert_eq!(lines(&counts, 48, 4), expected);
    }

    #[test]
    fn any_place_and_any_counts_will_do() {
        let mut counts = vec![u64::MAX; 64];
        for (width, height) in [(1, 1), (1, 3), (20, 2), (300, 5), (0, 0)] {
            lines(&counts, width, height);
        }
        counts.clear();
        assert_eq!(lines(&counts, 60, 2)[0], "");
    }
}
