//! What the operating system and nodetool say: CPU, bytes read, load, space on disk.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Linux counts CPU in /proc in 1/100 s on every platform that Rust knows.
const TICK: Duration = Duration::from_millis(10);

/// The server as a process, as far as it was named.
pub(crate) struct Server {
    /// `PITWIRE_CASSANDRA_PID`
    pub(crate) pid: Option<u32>,
    /// `PITWIRE_NODETOOL`: a command and its first arguments.
    pub(crate) nodetool: Option<Vec<String>>,
}

impl Server {
    pub(crate) fn from_env() -> Result<Self> {
        let pid = std::env::var("PITWIRE_CASSANDRA_PID").ok();
        let pid = pid
            .map(|pid| pid.trim().parse::<u32>().context("PITWIRE_CASSANDRA_PID is not a process id"))
            .transpose()?;
        if let Some(pid) = pid {
            cpu(&pid.to_string()).context("PITWIRE_CASSANDRA_PID")?;
        }
        let nodetool = std::env::var("PITWIRE_NODETOOL").ok();
        let nodetool = nodetool.map(|words| words.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        ensure!(nodetool.as_ref().is_none_or(|words| !words.is_empty()), "PITWIRE_NODETOOL is empty");
        Ok(Self { pid, nodetool })
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.pid.and_then(|pid| cpu(&pid.to_string()).ok())
    }

    /// Bytes that it has read by system calls so far: from its tables (from disk or from the kernel's cache), and
    /// some dozen bytes for each request.
    pub(crate) fn bytes_read(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/io", self.pid?)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("rchar: "))?.parse().ok()
    }

    /// Runs nodetool; what it prints, nothing if it is not known.
    pub(crate) fn nodetool(&self, arguments: &[&str]) -> Result<Option<String>> {
        let Some([command, first @ ..]) = self.nodetool.as_deref() else { return Ok(None) };
        let output = Command::new(command).args(first).args(arguments).output();
        let output = output.with_context(|| format!("run {command}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nodetool {arguments:?}: {}{said}", complaint.trim());
        Ok(Some(said))
    }

    /// Bytes of a table's files.
    pub(crate) fn space(&self, keyspace: &str, table: &str) -> Result<Option<u64>> {
        let Some(said) = self.nodetool(&["tablestats", &format!("{keyspace}.{table}")])? else { return Ok(None) };
        let line = said.lines().find_map(|line| line.trim().strip_prefix("Space used (live):"));
        let bytes = line.with_context(|| format!("nodetool tablestats names no space of {table}"))?;
        Ok(Some(bytes.trim().parse()?))
    }
}

/// User and system time of this process so far.
pub(crate) fn own_cpu() -> Result<Duration> {
    cpu("self")
}

fn cpu(pid: &str) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th field after it.
    let (_, fields) = text.rsplit_once(')').with_context(|| path.clone())?;
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}

/// CPU that all processes of the machine have used so far.
pub(crate) fn machine_cpu() -> Option<Duration> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u32> = text.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user, nice, system, (idle, iowait), irq, softirq
    Some(TICK * [0, 1, 2, 5, 6].iter().filter_map(|&at| fields.get(at)).sum())
}

/// The load of the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
