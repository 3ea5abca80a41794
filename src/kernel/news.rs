//! What happens again and again: said at once when it happens first, then once a minute with how often it did.
//!
//! Models come and go, watches fall back and return, clients misbehave: each such thing is worth a line, and a thousand of them
//! are not worth a thousand. What is of one kind is counted, and the newest is said when its minute is over.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use log::{Level, log};

/// How often things of one kind are said.
const INTERVAL: Duration = Duration::from_secs(60);

/// Like the log, it belongs to the process.
static NEWS: Mutex<News> = Mutex::new(News(BTreeMap::new()));

/// Say that something has happened, of a kind that may come often.
pub fn info(kind: &str, text: impl Display) {
    tell(Level::Info, kind, &text);
}

/// The same for what should not be.
pub fn warn(kind: &str, text: impl Display) {
    tell(Level::Warn, kind, &text);
}

/// Say what was kept for so long that it is time. To be called now and then.
pub fn turn() {
    say(lock().due(Instant::now(), false));
}

/// Say all that was kept: nothing comes any more.
pub fn end() {
    say(lock().due(Instant::now(), true));
}

fn tell(level: Level, kind: &str, text: &dyn Display) {
    let said = lock().hear(level, kind, format!("{text}"), Instant::now());
    say(said);
}

fn say(lines: impl IntoIterator<Item = (Level, String)>) {
    for (level, line) in lines {
        log!(level, "{line}");
    }
}

fn lock() -> MutexGuard<'static, News> {
    NEWS.lock().unwrap_or_else(|e| e.into_inner())
}

/// By level and kind. Those of which nothing was heard for the interval are forgotten.
struct News(BTreeMap<(Level, String), Kept>);

/// What was heard of a kind since something of it was said.
struct Kept {
    said: Instant,
    heard: Instant,
    newest: String,
    times: u32,
}

impl News {
    /// What is to be said of it now.
    fn hear(
        &mut self,
        level: Level,
        kind: &str,
        text: String,
        now: Instant,
    ) -> Option<(Level, String)> {
        let key = (level, kind.to_string());
        match self.0.get_mut(&key) {
            Some(kept) => {
                kept.times = kept.times.saturating_add(1);
                (kept.newest, kept.heard) = (text, now);
                None
            }
            None => {
                let kept = Kept {
                    said: now,
                    heard: now,
                    newest: String::new(),
                    times: 0,
                };
                self.0.insert(key, kept);
                Some((level, text))
            }
        }
    }

    /// What is to be said by now, in the order in which it was heard; at the `end`, all of it.
    fn due(&mut self, now: Instant, end: bool) -> Vec<(Level, String)> {
        let mut due = vec![];
        self.0.retain(|(level, _), kept| {
            let past = now.saturating_duration_since(kept.said);
            if past < INTERVAL && !end {
                return true;
            }
            if kept.times == 0 {
                return false;
            }
            let times = match (kept.times, past < INTERVAL) {
                (1, _) => String::new(),
                (n, false) => format!(" ({n} times in the last minute)"),
                (n, true) => format!(" ({n} times in the last {} s)", past.as_secs().max(1)),
            };
            due.push((kept.heard, *level, format!("{}{times}", kept.newest)));
            (kept.said, kept.times) = (now, 0);
            true
        });
        due.sort_by_key(|(heard, ..)| *heard);
        due.into_iter()
            .map(|(_, level, line)| (level, line))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_said_once_a_minute_with_its_count() {
        let (mut news, start) = (News(BTreeMap::new()), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        let mut heard = |kind: &str, text: &str, s| {
            news.hear(Level::Info, kind, text.into(), at(s))
                .map(|(_, line)| line)
        };
        assert_eq!(heard("a", "a 1", 0).as_deref(), Some("a 1"));
        assert_eq!(heard("b", "b 1", 5).as_deref(), Some("b 1"));
        for s in 1..6 {
            assert_eq!(heard("a", &format!("a {}", 1 + s), 10 + s), None);
        }
        assert_eq!(heard("b", "b 2", 20), None);
        let mut due = |s, end| {
            let due = news.due(at(s), end).into_iter();
            due.map(|(_, line)| line).collect::<Vec<_>>()
        };
        assert!(due(59, false).is_empty());
        assert_eq!(due(60, false), ["a 6 (5 times in the last minute)"]);
        assert_eq!(due(70, false), ["b 2"]);
        assert!(due(300, false).is_empty());
        // Forgotten: the next is said at once.
        let mut heard = |text: &str, s| news.hear(Level::Info, "a", text.into(), at(s));
        assert!(heard("a 7", 310).is_some());
        assert!(heard("a 8", 320).is_none() && heard("a 9", 330).is_none());
        let rest = news.due(at(340), true);
        assert_eq!(
            rest,
            [(Level::Info, "a 9 (2 times in the last 30 s)".into())]
        );
    }

    #[test]
    fn levels_are_told_apart_and_the_newest_comes_last() {
        let (mut news, now) = (News(BTreeMap::new()), Instant::now());
        for (n, level) in [Level::Warn, Level::Info, Level::Warn, Level::Info]
            .iter()
            .enumerate()
        {
            let at = now + Duration::from_secs(n as u64);
            let said = news.hear(*level, "a", format!("{n}"), at);
            assert_eq!(said.is_some(), n < 2);
        }
        let rest = news.due(now + Duration::from_secs(9), true);
        assert_eq!(rest, [(Level::Warn, "2".into()), (Level::Info, "3".into())]);
    }
}
