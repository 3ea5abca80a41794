//! Threads as /proc shows them: who one is, and which have a name.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use scx_ml_text::Show;
use serde::{Deserialize, Serialize};

/// Bytes of a thread's name that the kernel keeps.
const NAME_LEN: usize = 15;

/// Who a thread is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Thread id.
    pub pid: u32,
    /// Process id.
    pub tgid: u32,
    /// Name, as it is shown.
    pub comm: String,
    pub policy: String,
    pub nice: i32,
    /// Path in the cgroup v2 hierarchy, as it is shown; None without one.
    pub cgroup: Option<String>,
}

impl Identity {
    /// Whether the kernel serves its policy before sched_ext: real time and deadline.
    pub fn is_higher_class(&self) -> bool {
        ["SCHED_FIFO", "SCHED_RR", "SCHED_DEADLINE"].contains(&self.policy.as_str())
    }
}

/// Policies by the kernel's numbers.
const POLICIES: [&str; 8] = [
    "SCHED_OTHER",
    "SCHED_FIFO",
    "SCHED_RR",
    "SCHED_BATCH",
    "4",
    "SCHED_IDLE",
    "SCHED_DEADLINE",
    "SCHED_EXT",
];

/// The proc file system; a folder of the test's own in tests.
pub struct Proc {
    root: PathBuf,
}

impl Proc {
    /// The mounted one.
    pub fn mounted() -> Self {
        Self {
            root: PathBuf::from("/proc"),
        }
    }

    /// Who a thread is; None: there is no such thread.
    ///
    /// # Errors
    /// When /proc does not look as it should.
    pub fn identity(&self, pid: u32) -> io::Result<Option<Identity>> {
        let folder = self.root.join(pid.to_string());
        let (Some(stat), Some(status), Some(comm)) = (
            read(&folder.join("stat"))?,
            read(&folder.join("status"))?,
            self.comm(pid),
        ) else {
            return Ok(None);
        };
        let odd = |file: &str| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is not as expected", folder.join(file).shown()),
            )
        };
        let (_, fields) = split_stat(&stat).ok_or_else(|| odd("stat"))?;
        // Numbered from the state on, which is the third field of the file.
        let field = |number: usize| fields.get(number - 3).and_then(|f| f.parse::<i32>().ok());
        let (nice, policy) = field(19)
            .zip(field(41).and_then(|p| usize::try_from(p).ok()))
            .ok_or_else(|| odd("stat"))?;
        // Ends of lines in the name are escaped there.
        let tgid = String::from_utf8_lossy(&status)
            .lines()
            .find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
            .ok_or_else(|| odd("status"))?;
        Ok(Some(Identity {
            pid,
            tgid,
            comm: comm.shown().to_string(),
            policy: POLICIES
                .get(policy)
                .map_or_else(|| policy.to_string(), |name| name.to_string()),
            nice,
            cgroup: read(&folder.join("cgroup"))?.and_then(|text| {
                text.split(|&b| b == b'\n')
                    .find_map(|line| line.strip_prefix(b"0::"))
                    .map(|path| path.shown().to_string())
            }),
        }))
    }

    /// Every thread, with its CPU time so far. Threads that end meanwhile are left out.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn times(&self) -> io::Result<Vec<ThreadTime>> {
        let mut times = vec![];
        for tgid in ids(&self.root)? {
            let folder = self.root.join(tgid.to_string()).join("task");
            let Ok(pids) = ids(&folder) else {
                continue;
            };
            for pid in pids {
                let stat = read(&folder.join(pid.to_string()).join("stat"));
                times.extend(stat.ok().flatten().and_then(|stat| time(pid, tgid, &stat)));
            }
        }
        Ok(times)
    }

    /// Name of a thread, as it is; None: there is no such thread.
    pub fn comm(&self, pid: u32) -> Option<Vec<u8>> {
        let mut comm = read(&self.root.join(pid.to_string()).join("comm")).ok()??;
        // One that ends with an end of line has two.
        if comm.last() == Some(&b'\n') {
            comm.pop();
        }
        Some(comm)
    }

    /// Ids of the threads with this name or, where there are none, of those whose name begins so; in ascending order.
    /// Those of process `except` are left out.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn named(&self, name: &[u8], except: u32) -> io::Result<Vec<u32>> {
        // As the kernel keeps it.
        let kept = &name[..name.len().min(NAME_LEN)];
        let (mut exact, mut beginning) = (vec![], vec![]);
        for tgid in ids(&self.root)?.into_iter().filter(|&tgid| tgid != except) {
            // Processes end while we look.
            let Ok(pids) = ids(&self.root.join(tgid.to_string()).join("task")) else {
                continue;
            };
            for pid in pids {
                match self.comm(pid) {
                    // Those of kernel threads can be longer in /proc.
                    Some(comm) if comm == kept || comm == name => exact.push(pid),
                    Some(comm) if comm.starts_with(kept) => beginning.push(pid),
                    _ => {}
                }
            }
        }
        let mut found = if exact.is_empty() { beginning } else { exact };
        found.sort_unstable();
        Ok(found)
    }
}

/// A thread and its CPU time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadTime {
    pub pid: u32,
    pub tgid: u32,
    /// Name, as it is shown.
    pub comm: String,
    /// In the clock ticks of /proc, of which a second has [`ticks_per_second`].
    pub ticks: u64,
    /// When it started, in the same since boot: an id can come back as another thread's.
    pub start: u64,
}

/// Clock ticks of /proc in a second.
pub fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

fn time(pid: u32, tgid: u32, stat: &[u8]) -> Option<ThreadTime> {
    let (comm, fields) = split_stat(stat)?;
    // Numbered from the state on, which is the third field of the file.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(ThreadTime {
        pid,
        tgid,
        comm: unescaped(comm).shown().to_string(),
        ticks: field(14)? + field(15)?,
        start: field(22)?,
    })
}

/// What is in a file; None: it is not there, or its thread has ended.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if Errno::from_io_error(&e) == Some(Errno::SRCH) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Name as it stands there, and the fields behind it. A name may hold spaces and parentheses, the fields are numbers and a letter.
fn split_stat(stat: &[u8]) -> Option<(&[u8], Vec<&str>)> {
    let from = stat.windows(2).position(|two| two == b" (")? + 2;
    let to = stat.windows(2).rposition(|two| two == b") ")?;
    let fields = std::str::from_utf8(stat.get(to + 2..)?).ok()?;
    Some((stat.get(from..to)?, fields.split_whitespace().collect()))
}

/// A name as it is, from a file in which the kernel escapes ends of lines and backslashes.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut is = Vec::with_capacity(name.len());
    let mut from = name.iter().copied();
    while let Some(byte) = from.next() {
        is.push(match byte {
            b'\\' => match from.next() {
                Some(b'n') => b'\n',
                Some(other) => other,
                None => byte,
            },
            byte => byte,
        });
    }
    is
}

/// Folders whose name is a number.
fn ids(folder: &Path) -> io::Result<Vec<u32>> {
    let entries = std::fs::read_dir(folder)?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads of a /proc made of files: process, thread, name.
    fn proc(folder: &tempfile::TempDir, threads: &[(u32, u32, &[u8])]) -> Proc {
        for (tgid, pid, comm) in threads {
            let task = folder.path().join(format!("{tgid}/task/{pid}"));
            std::fs::create_dir_all(task).expect("created");
            let own = folder.path().join(pid.to_string());
            std::fs::create_dir_all(&own).expect("created");
            let rest = "S 1 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 5 3 0 9 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 1 0";
            let files = [
                ("comm", [comm, &b"\n"[..]].concat()),
                (
                    "stat",
                    [
                        format!("{pid} (").as_bytes(),
                        comm,
                        format!(") {rest}\n").as_bytes(),
                    ]
                    .concat(),
                ),
                (
                    "status",
                    [b"Name:\t", *comm, format!("\nTgid:\t{tgid}\n").as_bytes()].concat(),
                ),
                ("cgroup", b"1:cpu:/old\n0::/some/gr\x1bup\n".to_vec()),
            ];
            for (file, text) in files {
                std::fs::write(own.join(file), text).expect("written");
            }
        }
        Proc {
            root: folder.path().into(),
        }
    }

    #[test]
    fn a_name_with_parentheses_is_read_whole() {
        let folder = tempfile::tempdir().expect("created");
        let proc = proc(&folder, &[(10, 12, b"a) S (b")]);
        let found = proc.identity(12).expect("read").expect("there");
        let expected = Identity {
            pid: 12,
            tgid: 10,
            comm: "a) S (b".into(),
            policy: "SCHED_FIFO".into(),
            nice: 5,
            cgroup: Some("/some/gr\\x1bup".into()),
        };
        assert_eq!(found, expected);
        assert!(found.is_higher_class());
        assert_eq!(proc.identity(99).expect("read"), None);
    }

    #[test]
    fn a_file_that_is_not_as_expected_is_named() {
        let folder = tempfile::tempdir().expect("created");
        let proc = proc(&folder, &[(10, 10, b"a")]);
        std::fs::write(folder.path().join("10/stat"), "nonsense").expect("written");
        let error = proc.identity(10).expect_err("nonsense").to_string();
        assert!(error.contains("10/stat is not as expected"), "{error}");
    }

    #[test]
    fn the_whole_name_goes_before_its_beginning() {
        let folder = tempfile::tempdir().expect("created");
        let threads: [(u32, u32, &[u8]); 8] = [
            (10, 10, b"cc"),
            (10, 11, b"cc1"),
            (20, 20, b"cc"),
            (30, 30, b"fifteen-letters"),
            (40, 40, b"cc"),
            (50, 50, b"kworker/0:1-events_long"),
            (51, 51, b"kworker/0:1-events"),
            (60, 60, b"\x1b]0;evil\x07\xff\n"),
        ];
        let proc = proc(&folder, &threads);
        assert_eq!(proc.named(b"cc", 40).expect("read"), [10, 20]);
        assert_eq!(proc.named(b"c", 40).expect("read"), [10, 11, 20]);
        assert_eq!(
            proc.named(b"fifteen-letters-and-more", 40).expect("read"),
            [30]
        );
        assert_eq!(proc.named(b"kworker/0:1-events", 40).expect("read"), [51]);
        assert_eq!(proc.named(b"kworker", 40).expect("read"), [50, 51]);
        assert!(proc.named(b"ld", 40).expect("read").is_empty());
        let odd = b"\x1b]0;evil\x07\xff\n";
        assert_eq!(proc.named(odd, 40).expect("read"), [60]);
        assert_eq!(proc.named(&odd[..3], 40).expect("read"), [60]);
    }

    #[test]
    fn times_are_user_and_system_time() {
        let folder = tempfile::tempdir().expect("created");
        let proc = proc(&folder, &[(10, 10, b"a b")]);
        let stat = b"10 (a b\\n\\\\\xff) R 1 1 1 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0 77 0 0";
        std::fs::write(folder.path().join("10/task/10/stat"), stat).expect("written");
        let expected = ThreadTime {
            pid: 10,
            tgid: 10,
            comm: "a b\\x0a\\\\\\xff".into(),
            ticks: 42,
            start: 77,
        };
        assert_eq!(proc.times().expect("read"), [expected]);
        let own = Proc::mounted().times().expect("read");
        assert!(own.iter().any(|t| t.pid == std::process::id()));
        assert!(ticks_per_second() >= 1);
    }

    #[test]
    fn who_we_are() {
        let pid = std::process::id();
        let found = Proc::mounted().identity(pid).expect("read").expect("there");
        assert_eq!((found.pid, found.tgid), (pid, pid));
        let comm = Proc::mounted().comm(pid).expect("there");
        assert_eq!(comm.shown().to_string(), found.comm);
    }
}
