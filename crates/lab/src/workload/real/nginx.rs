//! `nginx`: a web server that answers wrk.

use super::served::{self, Served};
use super::server::{self, Server};
use super::tool::{self, Tool};
use super::{Beside, Company, Roles, given_or, whole_seconds};
use crate::error::Result;
use crate::metric::{MetricDef, Outcome};
use crate::workload::kind::{Context, Kind, Workload, bad};
use crate::{strict, sys};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const KIND: Kind = Kind {
    name: "nginx",
    about: "nginx serves a small file to wrk: requests and their latency",
    measures: "wrk keeps `connections` open and sends the next request on each when it has the answer to the last one: a \
        closed loop, so a slow server is asked less, and latency does not count what would have queued. Rate and \
        percentiles are wrk's own. nginx has a worker for each CPU, logs nothing and keeps connections alive.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.connections > 0 && p.threads > p.connections {
            return Err(bad(
                place,
                "there must not be more `threads` than `connections`",
            ));
        }
        Ok(Box::new(Nginx(p)))
    },
};

const NGINX: Tool = Tool::new("nginx", "nginx");
const WRK: Tool = Tool::new("wrk", "wrk");

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// Kept open by wrk, over all its threads; 0: four per CPU.
    connections: usize,
    /// Threads of wrk; 0: one for every four CPUs.
    threads: usize,
    /// Of nginx; 0: one per CPU.
    workers: usize,
    /// Size of the file.
    bytes: usize,
    beside: Beside,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            connections: 0,
            threads: 0,
            workers: 0,
            bytes: 1024,
            beside: Beside::None,
        }
    }
}

struct Nginx(Params);

/// What wrk is asked to print in the end, on a line of its own. Latencies are in µs.
const DONE: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("scx_lab %d %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// Everything nginx writes goes into the folder it is given.
fn configuration(port: u16, workers: usize, root: bool) -> String {
    // Started by root, its workers would be somebody who may not read the folder.
    let user = if root { "user root;\n" } else { "" };
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("  {what}_temp_path {what};\n"))
        .collect();
    format!(
        "daemon off;\n{user}worker_processes {workers};\npid nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 1024; }}\nhttp {{\n  access_log off;\n  keepalive_requests 1000000000;\n{folders}  \
         server {{ listen 127.0.0.1:{port}; root files; }}\n}}\n"
    )
}

/// Read what [`DONE`] had wrk print: what was measured, and how many requests failed.
fn parse(text: &str) -> Option<(Served, u64)> {
    let line = text.lines().find_map(|l| l.strip_prefix("scx_lab "))?;
    let numbers = line
        .split_whitespace()
        .map(|w| w.parse().ok())
        .collect::<Option<Vec<f64>>>()?;
    let [requests, duration_us, p50, p99, p999, errors] = numbers[..] else {
        return None;
    };
    // What was never answered has no latency.
    let latency = |us| if requests > 0.0 { us } else { f64::NAN };
    let served = Served {
        requests_per_s: requests / (duration_us / 1e6),
        latency_us: [p50, p99, p999].map(latency),
    };
    (duration_us > 0.0).then_some((served, errors as u64))
}

impl Nginx {
    fn serve(&self, dir: &Path, port: u16, cpus: usize) -> Result<Server> {
        let workers = given_or(self.0.workers, cpus);
        let text = configuration(port, workers, sys::is_root());
        let config = server::write(dir, "nginx.conf", text)?;
        server::create_folder(&dir.join("files"))?;
        server::write(&dir.join("files"), "file", vec![b'x'; self.0.bytes])?;
        let mut command = NGINX.server(KIND.name)?;
        command.arg("-p").arg(dir).arg("-c").arg(config);
        Server::start(command, KIND.name, dir, Signal::TERM, || {
            server::answers(port)
        })
    }

    fn ask(&self, script: &Path, port: u16, cpus: usize, seconds: f64) -> Result<String> {
        let connections = given_or(self.0.connections, 4 * cpus);
        let threads = given_or(self.0.threads, cpus.div_ceil(4)).min(connections);
        let mut wrk = WRK.command(KIND.name)?;
        wrk.arg(format!("-t{threads}"))
            .arg(format!("-c{connections}"))
            .arg(format!("-d{}s", whole_seconds(seconds)))
            .args(["--timeout", "60s", "-s"])
            .arg(script)
            .arg(format!("http://127.0.0.1:{port}/file"));
        Ok(tool::run(&mut wrk, KIND.name)?.stdout)
    }
}

impl Workload for Nginx {
    fn metrics(&self) -> Vec<MetricDef> {
        served::of_a_server()
    }

    fn check(&self) -> Result<()> {
        NGINX.check(KIND.name)?;
        WRK.check(KIND.name)?;
        self.0.beside.check(KIND.name)
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let dir = server::folder()?;
        let port = server::free_port()?;
        let script = server::write(dir.path(), "done.lua", DONE)?;
        let nginx = self.serve(dir.path(), port, ctx.cpus)?;
        let mut company = Company::start(self.0.beside, ctx.cpus, KIND.name)?;
        if ctx.warmup > 0.0 {
            self.ask(&script, port, ctx.cpus, ctx.warmup)?;
        }
        let (text, roles) =
            Roles::new(Some(&nginx), &company).measure(ctx, &mut company, || {
                self.ask(&script, port, ctx.cpus, ctx.seconds)
            })?;
        let (served, errors) =
            parse(&text).ok_or_else(|| tool::not_understood(KIND.name, &text))?;
        let failed = (errors > 0).then(|| format!("{errors} requests failed"));
        Ok(served.outcome(roles, failed.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_was_asked_to_print_is_read() {
        let (served, errors) =
            parse(include_str!("../../../fixtures/wrk-4.1.0.txt")).expect("understood");
        assert_eq!(served.latency_us, [135.0, 5485.0, 9888.0]);
        // wrk's own line says 30420.69.
        assert!((served.requests_per_s - 30_420.69).abs() < 1.0);
        assert_eq!(errors, 0);

        let (starved, errors) = parse("scx_lab 0 2000000 0 0 0 3\n").expect("understood");
        assert_eq!((starved.requests_per_s, errors), (0.0, 3));
        assert!(starved.latency_us.iter().all(|us| us.is_nan()));
    }

    #[test]
    fn without_that_line_nothing_is_read() {
        assert_eq!(parse("Requests/sec:  30420.69\n"), None);
        assert_eq!(parse("scx_lab 1 2 3\n"), None);
        assert_eq!(parse("scx_lab 0 0 0 0 0 0\n"), None);
    }

    #[test]
    fn only_root_names_a_user_and_no_path_leads_out_of_the_folder() {
        let text = configuration(8080, 4, true);
        assert!(text.contains("user root;") && text.contains("worker_processes 4;"));
        assert!(!configuration(8080, 4, false).contains("user"));
        assert!(!text.contains('/'), "{text}");
    }
}
