//! What the process itself uses, from `/proc/self`. Other systems than Linux have no such place.

use serde::Serialize;

/// What the process uses; `null` where the system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ProcessStatus {
    /// Resident memory, bytes.
    pub resident_bytes: Option<u64>,
    /// Processor time, user and system, s.
    pub cpu_s: Option<f64>,
}

impl ProcessStatus {
    /// Reads it now: two small files, no disk.
    #[must_use]
    pub fn read() -> Self {
        if !cfg!(target_os = "linux") {
            return Self::default();
        }
        let text = |path| std::fs::read_to_string(path).ok();
        Self {
            resident_bytes: text("/proc/self/status").and_then(|status| resident_bytes(&status)),
            cpu_s: text("/proc/self/stat").and_then(|stat| cpu_s(&stat)),
        }
    }
}

/// The line `VmRSS:     1234 kB`, where kB means KiB (proc_pid_status(5)).
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Fields 14 and 15, utime and stime (proc_pid_stat(5)), counted after the name, which may hold anything.
/// The unit is 1/100 s on all that Linux runs Rust on: USER_HZ is part of its interface.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u32>().ok()?.checked_add(fields.next()?.parse().ok()?)?;
    Some(f64::from(ticks) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 1000 1 1";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        assert_eq!(cpu_s(""), None);
        assert_eq!(cpu_s("7 (a) S 1"), None);
        assert_eq!(resident_bytes("VmRSS:\t many kB"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory() {
        let now = ProcessStatus::read();
        assert!(now.resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{now:?}");
        assert!(now.cpu_s.is_some_and(|seconds| seconds >= 0.0), "{now:?}");
    }
}
