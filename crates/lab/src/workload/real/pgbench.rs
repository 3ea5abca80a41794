//! `pgbench`: PostgreSQL, asked by its own benchmark.

use super::served::{self, Served};
use super::server::{self, Server};
use super::tool::{self, Tool};
use super::{Beside, Company, Roles, given_or, whole_seconds};
use crate::error::{LabError, Result};
use crate::metric::{MetricDef, Outcome, SavedHistogram};
use crate::workload::kind::{Context, Kind, Workload, bad};
use crate::{strict, sys};
use rustix::process::Signal;
use scx_ml_text::Show;
use serde::{Deserialize, Serialize};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const KIND: Kind = Kind {
    name: "pgbench",
    about: "PostgreSQL answers pgbench: transactions and their latency",
    measures: "With rate=0 each client begins the next transaction when the last one has ended: a closed loop. With a rate \
        transactions are due at random times, and latency runs from when one was due: an open loop, in which what waits \
        for a client counts. Scripts: `select` reads one row, `tpcb` changes four tables. The server has a process for each \
        client. Nothing is forced to disk (fsync=off): disks are not what is compared.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.clients == 0 || p.scale == 0 || !p.rate.is_finite() || p.rate < 0.0 {
            return Err(bad(
                place,
                "`clients` and `scale` must be positive, `rate` not negative",
            ));
        }
        Ok(Box::new(Pgbench(p)))
    },
};

const PGBENCH: Tool = Tool::new("pgbench", "postgresql");
/// Where Debian keeps the servers of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Script {
    Select,
    Tpcb,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    script: Script,
    clients: usize,
    /// Threads of pgbench; 0: one per CPU, but no more than clients.
    threads: usize,
    /// Transactions due each second; 0: as many as are answered.
    rate: f64,
    /// Size of the tables: 100 000 rows for each. Transactions of tpcb wait for each other if it is less than clients.
    scale: usize,
    beside: Beside,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            script: Script::Select,
            clients: 8,
            threads: 0,
            rate: 0.0,
            scale: 2,
            beside: Beside::None,
        }
    }
}

struct Pgbench(Params);

const USER: &str = "lab";

/// A user without privileges, as the server insists on one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// The first of `names` in /etc/passwd's text.
fn find_owner(passwd: &str, names: &[&str]) -> Option<Owner> {
    names.iter().find_map(|name| {
        let mut fields = passwd
            .lines()
            .map(|l| l.split(':'))
            .find_map(|mut f| (f.next() == Some(name)).then_some(f))?
            .skip(1);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Owner { uid, gid })
    })
}

/// Who the server is to be: nobody else for a user, postgres or nobody for root.
fn owner() -> Result<Option<Owner>> {
    if !sys::is_root() {
        return Ok(None);
    }
    let path = Path::new("/etc/passwd");
    let text = std::fs::read_to_string(path).map_err(|e| LabError::file(path, e))?;
    let owner = find_owner(&text, &["postgres", "nobody"]);
    owner.map(Some).ok_or_else(|| LabError::Unsupported {
        what: format!("workload `{}`", KIND.name),
        why:
            "PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody"
                .to_string(),
    })
}

/// The newest of the server's versions that are installed.
fn newest(versions: &Path) -> Option<PathBuf> {
    let number = |p: &Path| p.file_name()?.to_str()?.parse::<u32>().ok();
    std::fs::read_dir(versions)
        .ok()?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.join("bin/initdb").is_file())
        .max_by_key(|p| number(p))
        .map(|p| p.join("bin"))
}

/// The folder with initdb and postgres: Debian's, or that of the PATH.
fn programs() -> Result<PathBuf> {
    let on_path = || sys::find_program("initdb")?.parent().map(Path::to_path_buf);
    newest(Path::new(VERSIONS))
        .or_else(on_path)
        .ok_or_else(|| LabError::MissingProgram {
            program: "initdb".to_string(),
            needed_by: format!("workload `{}`", KIND.name),
            hint: "install the package postgresql; `vng/setup --workloads` installs all of them"
                .to_string(),
        })
}

/// The rate in what pgbench prints.
fn parse_rate(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|l| l.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A cluster of databases in a folder of its own, with pgbench's tables.
struct Database {
    dir: tempfile::TempDir,
    programs: PathBuf,
    owner: Option<Owner>,
}

impl Database {
    /// Make an empty one.
    fn create() -> Result<Self> {
        let (programs, owner) = (programs()?, owner()?);
        let dir = server::folder()?;
        if let Some(Owner { uid, gid }) = owner {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid))
                .map_err(|e| LabError::file(dir.path(), e))?;
        }
        let database = Self {
            dir,
            programs,
            owner,
        };
        let mut initdb = database.command("initdb");
        tool::tie(&mut initdb, Signal::KILL).args(["-A", "trust", "-U", USER, "--no-sync"]);
        initdb.args(["-E", "UTF8", "--locale=C", "-D"]);
        tool::run(initdb.arg(database.data()), KIND.name)?;
        Ok(database)
    }

    /// A command of the server's, as its owner.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.dir.path());
        if let Some(Owner { uid, gid }) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn serve(&self) -> Result<Server> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        command.arg("-k").arg(self.dir.path());
        for setting in ["listen_addresses=", "fsync=off", "max_connections=500"] {
            command.args(["-c", setting]);
        }
        let ready = || {
            let mut asked = self.command("pg_isready");
            tool::tie(&mut asked, Signal::KILL)
                .arg("-q")
                .arg("-h")
                .arg(self.dir.path());
            asked.status().is_ok_and(|s| s.success())
        };
        // At an interrupt it ends its clients' transactions and goes.
        Server::start(command, KIND.name, self.dir.path(), Signal::INT, ready)
    }

    /// A pgbench that asks it.
    fn pgbench(&self) -> Result<Command> {
        let mut command = PGBENCH.command(KIND.name)?;
        command.arg("-h").arg(self.dir.path()).args(["-U", USER]);
        Ok(command)
    }
}

impl Pgbench {
    /// Fill the tables.
    fn fill(&self, database: &Database) -> Result<()> {
        let mut command = database.pgbench()?;
        command.args(["-i", "-q", "-s", &self.0.scale.to_string(), "postgres"]);
        tool::run(&mut command, KIND.name).map(|_| ())
    }

    /// Ask for `seconds`; the log of what was answered goes to `log`, if there is one.
    fn ask(
        &self,
        database: &Database,
        cpus: usize,
        seconds: f64,
        log: Option<&Path>,
    ) -> Result<f64> {
        let p = &self.0;
        let threads = given_or(p.threads, cpus).min(p.clients);
        let mut command = database.pgbench()?;
        command.args(["-n", "-T", &whole_seconds(seconds)]).args([
            "-c",
            &p.clients.to_string(),
            "-j",
            &threads.to_string(),
        ]);
        if p.script == Script::Select {
            command.arg("-S");
        }
        if p.rate > 0.0 {
            command.args(["-R", &p.rate.to_string()]);
        }
        if let Some(log) = log {
            command.arg("-l");
            command.arg(format!("--log-prefix={}", log.join("log").shown()));
        }
        let text = tool::run(command.arg("postgres"), KIND.name)?.stdout;
        parse_rate(&text).ok_or_else(|| tool::not_understood(KIND.name, &text))
    }
}

impl Workload for Pgbench {
    fn metrics(&self) -> Vec<MetricDef> {
        served::defs()
            .into_iter()
            // With a rate as many are answered as are due, unless the server is overloaded.
            .map(|def| MetricDef {
                headline: def.headline && (self.0.rate == 0.0 || def.name != "requests_per_s"),
                ..def
            })
            .chain(Roles::defs(true))
            .filter(|def| def.name != "server_switches")
            .collect()
    }

    fn check(&self) -> Result<()> {
        programs()?;
        owner()?;
        PGBENCH.check(KIND.name)?;
        self.0.beside.check(KIND.name)
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let database = Database::create()?;
        let logs = server::folder()?;
        let postgres = database.serve()?;
        self.fill(&database)?;
        let mut company = Company::start(self.0.beside, ctx.cpus, KIND.name)?;
        if ctx.warmup > 0.0 {
            self.ask(&database, ctx.cpus, ctx.warmup, None)?;
        }
        let (rate, roles) =
            Roles::forking(&postgres, &company).measure(ctx, &mut company, || {
                self.ask(&database, ctx.cpus, ctx.seconds, Some(logs.path()))
            })?;
        let latencies = super::pgbench_log::read(logs.path())?;
        let mut outcome = Served::from_histogram(rate, &latencies)
            .outcome(roles, vec![format!("{} transactions", latencies.len())]);
        for (metric, def) in outcome.metrics.iter_mut().zip(self.metrics()) {
            metric.def = def;
        }
        outcome.histograms = vec![SavedHistogram::from_hdr("latency", "ns", &latencies)];
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read() {
        let text = include_str!("../../../fixtures/pgbench-15.18.txt");
        assert_eq!(parse_rate(text), Some(23684.668532));
        assert_eq!(parse_rate("pgbench: error: connection failed\n"), None);
    }

    #[test]
    fn a_user_without_privileges_is_found() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:nobody:/:/bin/false\n";
        let nobody = Owner {
            uid: 65534,
            gid: 65533,
        };
        assert_eq!(find_owner(passwd, &["postgres", "nobody"]), Some(nobody));
        assert_eq!(find_owner(passwd, &["postgres"]), None);
    }

    #[test]
    fn the_newest_version_is_taken() {
        let dir = tempfile::tempdir().expect("made");
        for version in ["9", "15"] {
            let bin = dir.path().join(version).join("bin");
            std::fs::create_dir_all(&bin).expect("made");
            std::fs::write(bin.join("initdb"), "").expect("written");
        }
        std::fs::create_dir(dir.path().join("17")).expect("made");
        assert_eq!(newest(dir.path()), Some(dir.path().join("15/bin")));
        assert_eq!(newest(&dir.path().join("none")), None);
    }

    #[test]
    fn an_open_loop_is_not_judged_by_its_rate() {
        let open = Pgbench(Params {
            rate: 100.0,
            ..Params::default()
        });
        let headlines: Vec<String> = open
            .metrics()
            .into_iter()
            .filter(|d| d.headline)
            .map(|d| d.name)
            .collect();
        assert_eq!(headlines, ["latency_p99"]);
    }
}
