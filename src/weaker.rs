//! What stands in, with `--best-effort`, for a limit of a group where there is no group to be had: limits that the
//! kernel has for single processes and for users. Each is weaker, and says in what. Decided without I/O.
//!
//! Sources: getrlimit(2), sched(7). RLIMIT_DATA, and not RLIMIT_AS, for `--mem`: since Linux 4.7 it counts all
//! writable memory that a process does not share, while many runtimes set aside addresses by the terabyte.

use std::path::Path;

use crate::cage::process::Setting;
use crate::files;
use crate::limits::{self, Asked, Value};
use crate::value::show_bytes;

/// What this process and its user have already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Soft and hard limits as they are; `u64::MAX`: unlimited.
    data: (u64, u64),
    cpu: (u64, u64),
    tasks: (u64, u64),
    nice: i32,
    /// The user's processes and threads; why they cannot be told.
    running: Result<u64, String>,
}

impl Facts {
    /// Reads them below `root`; `count`: the user's processes and threads too.
    #[must_use]
    pub fn read(root: &Path, count: bool) -> Self {
        let limits = files::text(&root.join("proc/self/limits")).unwrap_or_default();
        let limit = |name: &str| {
            let rest = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let mut numbers = rest.split_whitespace().map(|word| word.parse().unwrap_or(u64::MAX));
            (numbers.next().unwrap_or(u64::MAX), numbers.next().unwrap_or(u64::MAX))
        };
        let stat = files::text(&root.join("proc/self/stat")).unwrap_or_default();
        // Field 19 (proc_pid_stat(5)); the second, in parentheses, may hold anything.
        let nice = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(16));
        Self {
            data: limit("Max data size"),
            cpu: limit("Max cpu time"),
            tasks: limit("Max processes"),
            nice: nice.and_then(|word| word.parse().ok()).unwrap_or(0),
            running: if count {
                running(root)
            } else {
                Err("RLIMIT_NPROC does not hold for root".to_owned())
            },
        }
    }
}

/// The processes and threads that the kernel counts for the real user of this process.
fn running(root: &Path) -> Result<u64, String> {
    // The kernel's own number of the first pid namespace; from inside of another, some are not to be seen.
    let first = std::fs::read_link(root.join("proc/self/ns/pid"));
    if first.is_ok_and(|link| link.as_os_str() != "pid:[4026531836]") {
        return Err("in a pid namespace the user's other processes cannot be counted".to_owned());
    }
    let own = nix::unistd::getuid().to_string();
    let entries = std::fs::read_dir(root.join("proc")).map_err(|error| format!("/proc: {error}"))?;
    let mut count = 0;
    for entry in entries.flatten() {
        let is_number = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
        if !entry.file_name().to_str().is_some_and(is_number) {
            continue;
        }
        let status = files::text(&entry.path().join("status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let user = field("Uid:").and_then(|rest| rest.split_whitespace().next());
        if user == Some(own.as_str()) {
            count += field("Threads:").and_then(|rest| rest.trim().parse::<u64>().ok()).unwrap_or(1);
        }
    }
    if count == 0 { Err("/proc does not show this user's processes".to_owned()) } else { Ok(count) }
}

/// What is done instead, and in which words; no setting: nothing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// What the child sets.
    pub setting: Option<Setting>,
    /// A clause for after the reason.
    pub words: String,
}

impl StandIn {
    fn nothing(why: &str) -> Self {
        Self { setting: None, words: format!("and nothing stands in for it: {why}") }
    }
}

/// For a limit; nothing where the kernel has nothing like it outside of groups. `apart`: the command will be in a
/// user namespace of its own.
#[must_use]
pub fn of_limit(asked: &Asked, facts: &limits::Facts, own: &Facts, apart: bool) -> Option<StandIn> {
    match (asked.limit.name, &asked.value) {
        ("mem", _) => {
            let bytes = limits::bytes(asked, facts)?;
            Some(StandIn {
                setting: lowered("data", (bytes, bytes), own.data),
                words: format!(
                    "instead each process by itself may have {} of memory (RLIMIT_DATA; what it shares is not counted)",
                    show_bytes(bytes)
                ),
            })
        }
        ("pids", Value::Count(count)) => {
            let count = count.to_string().parse::<u64>().ok()?;
            let running = match &own.running {
                // Counted for each user namespace by itself, and not by each kernel.
                _ if apart => {
                    return Some(StandIn::nothing("a new user namespace counts its processes anew"));
                }
                Err(why) => return Some(StandIn::nothing(why)),
                Ok(running) => running,
            };
            let most = running.saturating_add(count);
            Some(StandIn {
                setting: lowered("nproc", (most, most), own.tasks),
                words: format!(
                    "instead this user may have {count} processes and threads more than now (RLIMIT_NPROC; those that \
                     others start as this user count too)"
                ),
            })
        }
        ("cpu-weight", Value::Weight(weight)) if weight.0 < 100 => {
            let nice = own.nice.saturating_add(niceness(weight.0)).min(19);
            Some(StandIn {
                setting: Some(Setting::Nice(nice)),
                words: format!("instead each process by itself has the nice value {nice}"),
            })
        }
        ("cpu", _) => Some(StandIn::nothing("outside of groups no kernel limits CPU time per time")),
        _ => None,
    }
}

/// For `--cpu-time`: seconds of CPU time, and more of it until SIGKILL.
#[must_use]
pub fn of_cpu_time(span: std::time::Duration, grace: std::time::Duration, own: &Facts) -> StandIn {
    let whole = |span: std::time::Duration| span.as_secs() + u64::from(span.subsec_nanos() > 0);
    let soft = whole(span).max(1);
    let hard = soft.saturating_add(whole(grace));
    StandIn {
        setting: lowered("cpu", (soft, hard), own.cpu),
        words: format!(
            "instead each process by itself gets SIGXCPU after {soft}s of CPU time, and SIGKILL after {hard}s (RLIMIT_CPU)"
        ),
    }
}

/// What is lower already stays so.
fn lowered(name: &str, wanted: (u64, u64), now: (u64, u64)) -> Option<Setting> {
    Setting::limit(name, wanted.0.min(now.0), wanted.1.min(now.1))
}

/// The nice value of a weight below 100: each step is a fifth less (sched(7)), which the kernel has for groups too.
fn niceness(weight: u64) -> i32 {
    let (mut nice, mut at) = (0, 100_000_u64);
    // Nearer to the next step than to this one.
    while nice < 19 && at * 9 / 10 > weight.saturating_mul(1000) {
        at = at * 4 / 5;
        nice += 1;
    }
    nice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Facts {
        let all = (u64::MAX, u64::MAX);
        Facts { data: all, cpu: all, tasks: (500, 600), nice: 3, running: Ok(40) }
    }

    fn asked(name: &str, value: &str) -> Asked {
        let limit = limits::limit(name).unwrap();
        Asked { limit, spelled: format!("--{name} {value}"), value: (limit.parse)(value).unwrap() }
    }

    fn setting(name: &str, value: &str, own: &Facts) -> Option<Setting> {
        let facts = limits::Facts { page: 4096, memory: 1 << 30, ..limits::Facts::default() };
        of_limit(&asked(name, value), &facts, own, false)?.setting
    }

    #[test]
    fn nothing_is_raised() {
        let own = own();
        assert!(
            matches!(setting("mem", "25%", &own), Some(Setting::Rlimit("data", _, s, h)) if s == 1 << 28 && h == s)
        );
        assert!(matches!(setting("pids", "10", &own), Some(Setting::Rlimit("nproc", _, 50, 50))));
        assert!(matches!(setting("pids", "1000", &own), Some(Setting::Rlimit("nproc", _, 500, 600))));
        let tight = Facts { data: (4096, 1 << 20), ..own };
        assert!(matches!(setting("mem", "64M", &tight), Some(Setting::Rlimit("data", _, 4096, 0x10_0000))));
        assert_eq!((setting("mem", "max", &tight), setting("cpu", "30%", &tight)), (None, None));
    }

    /// As the kernel's own table has it (sched_prio_to_weight): 1024 is 100 is nice 0, 335 is nice 5.
    #[test]
    fn weights_are_nice_values() {
        for (weight, nice) in [(99, 0), (80, 1), (33, 5), (11, 10), (2, 18), (1, 19)] {
            assert_eq!(niceness(weight), nice, "{weight}");
        }
        assert_eq!(setting("cpu-weight", "33", &own()), Some(Setting::Nice(8)));
        assert_eq!(setting("cpu-weight", "100", &own()), None);
    }

    #[test]
    fn cpu_time_is_whole_seconds() {
        let of =
            |ms| of_cpu_time(std::time::Duration::from_millis(ms), std::time::Duration::ZERO, &own()).setting;
        assert!(matches!(of(10), Some(Setting::Rlimit("cpu", _, 1, 1))));
        assert!(matches!(of(2001), Some(Setting::Rlimit("cpu", _, 3, 3))));
    }

    #[test]
    fn our_own_are_read() {
        let read = Facts::read(Path::new("/"), true);
        assert!(read.tasks.0 > 0 && (-20..=19).contains(&read.nice));
        assert!(read.running.is_err() || read.running.is_ok_and(|count| count > 0));
    }
}
