//! Settings of the process itself that the kernel hands on to its children: resource limits, priorities,
//! scheduling, and who the out-of-memory killer takes first.

use std::ffi::CString;

use nix::errno::Errno;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// setrlimit(2): name, number, soft and hard limit (the kernel's unit; `u64::MAX`: unlimited).
    Rlimit(&'static str, u32, u64, u64),
    /// setpriority(2).
    Nice(i32),
    /// ioprio_set(2): class, level.
    Ionice(u16, u16),
    /// sched_setscheduler(2): name, policy, priority.
    Sched(&'static str, i32, i32),
    /// sched_setattr(2), SCHED_DEADLINE: runtime, deadline, period in nanoseconds.
    Deadline([u64; 3]),
    /// /proc/self/oom_score_adj.
    OomScoreAdj(CString),
}

/// All names of getrlimit(2), with their numbers.
#[allow(clippy::unnecessary_cast)] // their type is another one in other C libraries
const RLIMITS: [(&str, u32); 16] = [
    ("as", libc::RLIMIT_AS as u32),
    ("core", libc::RLIMIT_CORE as u32),
    ("cpu", libc::RLIMIT_CPU as u32),
    ("data", libc::RLIMIT_DATA as u32),
    ("fsize", libc::RLIMIT_FSIZE as u32),
    ("locks", libc::RLIMIT_LOCKS as u32),
    ("memlock", libc::RLIMIT_MEMLOCK as u32),
    ("msgqueue", libc::RLIMIT_MSGQUEUE as u32),
    ("nice", libc::RLIMIT_NICE as u32),
    ("nofile", libc::RLIMIT_NOFILE as u32),
    ("nproc", libc::RLIMIT_NPROC as u32),
    ("rss", libc::RLIMIT_RSS as u32),
    ("rtprio", libc::RLIMIT_RTPRIO as u32),
    ("rttime", libc::RLIMIT_RTTIME as u32),
    ("sigpending", libc::RLIMIT_SIGPENDING as u32),
    ("stack", libc::RLIMIT_STACK as u32),
];

/// Limits whose value is a number of bytes, for which suffixes are understood.
const IN_BYTES: [&str; 8] = ["as", "core", "data", "fsize", "memlock", "msgqueue", "rss", "stack"];

/// Reads `nofile=1024:4096`, `core=unlimited`, `as=2G`; one number is both limits.
///
/// # Errors
/// What is wrong with it.
pub fn rlimit(text: &str) -> Result<Setting, String> {
    let (name, values) = text.split_once('=').ok_or("give NAME=SOFT[:HARD], such as nofile=1024:4096")?;
    let lower = name.to_ascii_lowercase();
    let lower = lower.strip_prefix("rlimit_").unwrap_or(&lower);
    let Some((name, number)) = RLIMITS.into_iter().find(|(known, _)| *known == lower) else {
        let names: Vec<&str> = RLIMITS.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no limit {name:?}: choose of {}", names.join(", ")));
    };
    let value = |word: &str| match word {
        "unlimited" | "infinity" | "max" => Ok(u64::MAX),
        _ if IN_BYTES.contains(&name) => crate::value::bytes(word),
        _ => word.parse().map_err(|_| format!("{word:?} is no number; 'unlimited' is none either way")),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (value(soft)?, value(hard)?),
        None => (value(values)?, value(values)?),
    };
    if soft > hard {
        return Err("the soft limit is above the hard one".to_owned());
    }
    Ok(Setting::Rlimit(name, number, soft, hard))
}

/// Reads a nice value: -20 (most favourable) to 19.
///
/// # Errors
/// What is wrong with it.
pub fn nice(text: &str) -> Result<Setting, String> {
    match text.parse() {
        Ok(value @ -20..=19) => Ok(Setting::Nice(value)),
        _ => Err("give a number from -20 (first in line) to 19 (last)".to_owned()),
    }
}

/// Reads `idle`, `best-effort:7`, `realtime:0`, or ionice(1)'s numbers of the classes.
///
/// # Errors
/// What is wrong with it.
pub fn ionice(text: &str) -> Result<Setting, String> {
    let (class, level) = text.split_once(':').map_or((text, None), |(class, level)| (class, Some(level)));
    let class = match class {
        "1" | "realtime" | "rt" => 1,
        "2" | "best-effort" | "be" => 2,
        "3" | "idle" => 3,
        _ => return Err("give idle, best-effort[:0-7] or realtime[:0-7]".to_owned()),
    };
    let level = match (class, level) {
        (3, Some(_)) => return Err("the idle class has no levels".to_owned()),
        (3, None) => 0,
        // The kernel's own default in both classes.
        (_, None) => 4,
        (_, Some(level)) => match level.parse() {
            Ok(level @ 0..=7) => level,
            _ => return Err("give a level from 0 (first in line) to 7".to_owned()),
        },
    };
    Ok(Setting::Ionice(class, level))
}

/// Reads `other`, `batch`, `idle`, `fifo:10`, `rr:10`, `deadline:10ms:30ms`.
///
/// # Errors
/// What is wrong with it.
pub fn sched(text: &str) -> Result<Setting, String> {
    if let Some(times) = text.strip_prefix("deadline") {
        return deadline(times);
    }
    let (policy, priority) = text.split_once(':').map_or((text, None), |(p, n)| (p, Some(n)));
    let (name, number, real_time) = match policy {
        "other" | "normal" => ("other", libc::SCHED_OTHER, false),
        "batch" => ("batch", libc::SCHED_BATCH, false),
        "idle" => ("idle", libc::SCHED_IDLE, false),
        "fifo" => ("fifo", libc::SCHED_FIFO, true),
        "rr" => ("rr", libc::SCHED_RR, true),
        _ => {
            return Err("give other, batch, idle, fifo:PRIO, rr:PRIO or deadline:RUNTIME:DEADLINE[:PERIOD]"
                .to_owned());
        }
    };
    let priority = match (real_time, priority.map(str::parse)) {
        (false, None | Some(Ok(0))) => 0,
        (true, Some(Ok(priority @ 1..=99))) => priority,
        (true, _) => return Err("give a priority from 1 to 99 (the highest), such as rr:10".to_owned()),
        (false, Some(_)) => {
            return Err("only fifo and rr have priorities (--nice is for the others)".to_owned());
        }
    };
    Ok(Setting::Sched(name, number, priority))
}

/// `:RUNTIME:DEADLINE[:PERIOD]`, by the kernel's own rules (sched(7)).
fn deadline(times: &str) -> Result<Setting, String> {
    let nanoseconds = |word| {
        let time = humantime::parse_duration(word).ok()?;
        u64::try_from(time.as_nanos()).ok()
    };
    let times: Option<Vec<u64>> = times.split(':').skip(1).map(nanoseconds).collect();
    let (runtime, deadline, period) = match times.as_deref() {
        Some(&[runtime, deadline]) => (runtime, deadline, deadline),
        Some(&[runtime, deadline, period]) => (runtime, deadline, period),
        _ => return Err("give deadline:RUNTIME:DEADLINE[:PERIOD], such as deadline:10ms:30ms".to_owned()),
    };
    if runtime < 1024 || runtime > deadline || deadline > period {
        return Err("the runtime is 1024 ns or more, and no longer than the deadline, and that no longer than the period".to_owned());
    }
    Ok(Setting::Deadline([runtime, deadline, period]))
}

/// Reads the adjustment: -1000 (never) to 1000 (first).
///
/// # Errors
/// What is wrong with it.
pub fn oom_score_adj(text: &str) -> Result<Setting, String> {
    let value = match text.parse::<i32>() {
        Ok(value @ -1000..=1000) => value,
        _ => return Err("give a number from -1000 (never taken) to 1000 (taken first)".to_owned()),
    };
    CString::new(value.to_string()).map(Setting::OomScoreAdj).map_err(|e| e.to_string())
}

impl Setting {
    /// A limit of getrlimit(2) by its name in lower case.
    #[must_use]
    pub fn limit(name: &str, soft: u64, hard: u64) -> Option<Self> {
        let (name, number) = RLIMITS.into_iter().find(|(known, _)| *known == name)?;
        Some(Self::Rlimit(name, number, soft, hard))
    }

    /// What was asked twice is what the later one says.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rlimit(_, one, ..), Self::Rlimit(_, two, ..)) => one == two,
            (Self::Sched(..) | Self::Deadline(_), Self::Sched(..) | Self::Deadline(_)) => true,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// As a clause that starts with a verb.
    #[must_use]
    pub fn words(&self) -> String {
        let number = |n: u64| if n == u64::MAX { "unlimited".to_owned() } else { n.to_string() };
        match self {
            Self::Rlimit(name, _, soft, hard) => {
                format!("set RLIMIT_{} to {} (hard {})", name.to_uppercase(), number(*soft), number(*hard))
            }
            Self::Nice(value) => format!("set the nice value to {value}"),
            Self::Ionice(class, level) => {
                let class =
                    ["none", "realtime", "best-effort", "idle"].get(usize::from(*class)).unwrap_or(&"?");
                format!("set the I/O class to {class}, level {level}")
            }
            Self::Sched(name, _, 0) => format!("set the scheduling policy to {name}"),
            Self::Sched(name, _, priority) => {
                format!("set the scheduling policy to {name}, priority {priority}")
            }
            Self::Deadline(times) => {
                let [runtime, deadline, period] =
                    times.map(|time| humantime::format_duration(std::time::Duration::from_nanos(time)));
                format!(
                    "set the scheduling policy to deadline: {runtime} within {deadline}, every {period} (what it forks gets the policy other)"
                )
            }
            Self::OomScoreAdj(value) => format!("set oom_score_adj to {}", value.to_string_lossy()),
        }
    }

    /// Sets it, in the child: async-signal-safe.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn apply(&self) -> Result<(), Errno> {
        match self {
            Self::Rlimit(_, number, soft, hard) => crate::sys::child::set_rlimit(*number, *soft, *hard),
            Self::Nice(value) => crate::sys::child::set_nice(*value),
            Self::Ionice(class, level) => crate::sys::child::set_ionice(*class, *level),
            Self::Sched(_, policy, priority) => crate::sys::child::set_scheduler(*policy, *priority),
            Self::Deadline(times) => crate::sys::child::set_deadline(*times),
            Self::OomScoreAdj(value) => {
                crate::sys::child::write_file(c"/proc/self/oom_score_adj", value.to_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        assert!(matches!(
            rlimit("RLIMIT_NOFILE=1024:4096").unwrap(),
            Setting::Rlimit("nofile", _, 1024, 4096)
        ));
        assert!(matches!(rlimit("as=2G").unwrap(), Setting::Rlimit("as", _, 0x8000_0000, 0x8000_0000)));
        assert!(matches!(rlimit("core=unlimited").unwrap(), Setting::Rlimit(_, _, u64::MAX, u64::MAX)));
        assert!(rlimit("nofile=2:1").is_err() && rlimit("files=1").is_err() && rlimit("nofile=1K").is_err());
        assert!(nice("-21").is_err() && nice("5").is_ok());
        assert_eq!(ionice("best-effort").unwrap(), Setting::Ionice(2, 4));
        assert!(ionice("idle:1").is_err() && ionice("rt:8").is_err());
        assert_eq!(
            sched("deadline:10ms:30ms").unwrap(),
            Setting::Deadline([10_000_000, 30_000_000, 30_000_000])
        );
        for wrong in ["deadline", "deadline:1ms", "deadline:2ms:1ms", "deadline:1ms:3ms:2ms", "deadline:1:2"]
        {
            assert!(sched(wrong).is_err(), "{wrong}");
        }
        assert!(sched("rr:10").unwrap().replaces(&sched("deadline:1ms:2ms").unwrap()));
        assert!(sched("fifo").is_err() && sched("rr:10").is_ok() && sched("batch:1").is_err());
        assert!(oom_score_adj("1001").is_err());
        assert!(nice("1").unwrap().replaces(&nice("2").unwrap()));
        assert!(!rlimit("nofile=1").unwrap().replaces(&rlimit("nproc=1").unwrap()));
    }
}
