//! A PostgreSQL of a workload's own: its user, its programs, and a cluster of databases with pgbench's tables.

use super::server::{self, Server};
use super::tool::{self, Tool};
use crate::error::{LabError, Result};
use crate::sys;
use rustix::process::Signal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const WORKLOAD: &str = "pgbench";
const PGBENCH: Tool = Tool::new("pgbench", "postgresql");
/// Where Debian keeps the servers of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
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
        what: format!("workload `{}`", WORKLOAD),
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
            needed_by: format!("workload `{}`", WORKLOAD),
            hint: "install the package postgresql; `vng/setup --workloads` installs all of them"
                .to_string(),
        })
}

/// That all of it is there.
///
/// # Errors
/// If it is not, with what to install.
pub fn check() -> Result<()> {
    programs()?;
    owner()?;
    PGBENCH.check(WORKLOAD)
}

/// Copy a folder with owners and rights.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut cp = Command::new("cp");
    tool::tie(&mut cp, Signal::KILL).arg("-a").arg(from).arg(to);
    tool::run(&mut cp, WORKLOAD).map(|_| ())
}

/// A cluster of databases in a folder of its own, with pgbench's tables.
pub struct Database {
    dir: tempfile::TempDir,
    programs: PathBuf,
    owner: Option<Owner>,
}

impl Database {
    /// Make one with pgbench's tables of this scale, or take a copy of one that an earlier cell made.
    pub fn with_tables(scale: usize, shared: Option<&Path>) -> Result<Self> {
        let database = Self::empty()?;
        let template = shared.map(|dir| dir.join(format!("postgresql-{scale}")));
        if let Some(template) = template.as_deref().filter(|t| t.exists()) {
            copy(template, &database.data())?;
            return Ok(database);
        }
        database.fill(scale)?;
        if let Some(template) = template {
            // Under its name only when it is whole.
            let partial = template.with_extension("partial");
            copy(&database.data(), &partial)?;
            std::fs::rename(&partial, &template).map_err(|e| LabError::file(&template, e))?;
        }
        Ok(database)
    }

    /// A folder for one, without anything in it.
    fn empty() -> Result<Self> {
        let (programs, owner) = (programs()?, owner()?);
        let dir = server::folder()?;
        if let Some(Owner { uid, gid }) = owner {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid))
                .map_err(|e| LabError::file(dir.path(), e))?;
        }
        Ok(Self {
            dir,
            programs,
            owner,
        })
    }

    /// Make the cluster and its tables.
    fn fill(&self, scale: usize) -> Result<()> {
        let mut initdb = self.command("initdb");
        tool::tie(&mut initdb, Signal::KILL).args(["-A", "trust", "-U", USER, "--no-sync"]);
        initdb.args(["-E", "UTF8", "--locale=C", "-D"]);
        tool::run(initdb.arg(self.data()), WORKLOAD)?;
        // Stopped before it is copied.
        let _server = self.serve()?;
        let mut pgbench = self.pgbench()?;
        pgbench.args(["-i", "-q", "-s", &scale.to_string(), "postgres"]);
        tool::run(&mut pgbench, WORKLOAD).map(|_| ())
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

    /// Start its server.
    pub fn serve(&self) -> Result<Server> {
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
        Server::start(command, WORKLOAD, self.dir.path(), Signal::INT, ready)
    }

    /// A pgbench that asks it.
    pub fn pgbench(&self) -> Result<Command> {
        let mut command = PGBENCH.command(WORKLOAD)?;
        command.arg("-h").arg(self.dir.path()).args(["-U", USER]);
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
