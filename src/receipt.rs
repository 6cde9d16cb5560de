//! What was asked about the end of a run: when to end it, what to tell about it, and which status to leave with.
//! Plain data. No I/O.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::Format;
use crate::error::Error;
use crate::limits::Controller;
use crate::value::Span;

/// What is asked for when nothing is said.
const KILL_AFTER: Duration = Duration::from_secs(10);

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--timeout`: CLOCK_MONOTONIC, which stands still while the machine is suspended.
    pub timeout: Option<Span>,
    /// `--timeout-boottime`: CLOCK_BOOTTIME, which does not.
    pub timeout_boottime: Option<Span>,
    /// `--cpu-time`: user and system, of all processes of the run, also of those that have ended.
    pub cpu_time: Option<Span>,
    /// `--signal`.
    pub signal: Option<SignalNumber>,
    /// `--kill-after`.
    pub kill_after: Option<Span>,
    /// `--preserve-status`.
    pub preserve_status: bool,
    /// `--timeout-status`.
    pub timeout_status: Option<u8>,
    /// `--oom-status`.
    pub oom_status: Option<u8>,
    /// `--oom-fail`.
    pub oom_fail: bool,
    /// `--report`, each time it was said.
    pub reports: Vec<Target>,
    /// `--report-append`.
    pub append: Option<PathBuf>,
    /// `--report-strict`.
    pub strict: bool,
    /// `--mem-grow`, in bytes.
    pub mem_grow: Option<u64>,
    /// `--record`: where to, and how often it is looked.
    pub record: Option<(PathBuf, Duration)>,
}

/// One report: in which form, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// For people or for programs.
    pub format: Format,
    /// Where.
    pub sink: Sink,
}

/// Where a report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard error.
    Stderr,
    /// This file, as a whole or not at all.
    File(PathBuf),
    /// A descriptor that the caller has opened.
    Descriptor(i32),
}

impl Asked {
    /// Can this not be had without a group of the run's own?
    #[must_use]
    pub fn needs_group(&self) -> bool {
        self.cpu_time.is_some() || self.oom_fail || self.oom_status.is_some()
    }

    /// The option that [`needs_group`](Self::needs_group), as the user spelled it.
    #[must_use]
    pub fn spelled(&self) -> String {
        match (&self.cpu_time, &self.oom_status) {
            (Some(span), _) => format!("--cpu-time {span}"),
            (None, Some(status)) => format!("--oom-status {status}"),
            (None, None) => "--oom-fail".to_owned(),
        }
    }

    /// Leaves out the option that [`spelled`](Self::spelled) names.
    pub fn need_less(&mut self) {
        if self.cpu_time.take().is_none() && self.oom_status.take().is_none() {
            self.oom_fail = false;
        }
    }

    /// Refuses what contradicts itself or means nothing.
    ///
    /// # Errors
    /// Names the option.
    pub fn check(&self, limits: &[crate::limits::Asked], shared: bool) -> Result<(), Error> {
        if self.mem_grow.is_some() {
            let asked = |name: &str| limits.iter().any(|asked| asked.limit.name == name);
            let refused = |why: &str| Err(Error::new(why).option("--mem-grow"));
            if !asked("mem") {
                return refused("means nothing without --mem, which is where it starts");
            }
            if asked("mem-high") {
                return refused("uses memory.high for itself, which --mem-high sets too: give one of them");
            }
            if shared {
                return refused("the limit of a shared group is not one run's to raise");
            }
        }
        let limited = self.timeout.is_some() || self.timeout_boottime.is_some() || self.cpu_time.is_some();
        let idle = [
            ("--signal", self.signal.is_some()),
            ("--preserve-status", self.preserve_status),
            ("--timeout-status", self.timeout_status.is_some()),
        ];
        if self.strict && !self.counts() {
            return Err(Error::new("means nothing without a report")
                .option("--report-strict")
                .try_this("--report-strict together with --report=json:FILE or --report-append FILE"));
        }
        if let Some((option, _)) = idle.iter().find(|(_, given)| *given && !limited) {
            return Err(Error::new("means nothing without a time limit")
                .option(*option)
                .try_this(format!("{option} together with --timeout 10m or --cpu-time 90s")));
        }
        if self.preserve_status && self.timeout_status.is_some() {
            return Err(Error::new("both --preserve-status and --timeout-status: give one of them"));
        }
        Ok(())
    }

    /// Are there figures to be told?
    #[must_use]
    pub fn counts(&self) -> bool {
        !self.reports.is_empty() || self.append.is_some() || self.record.is_some()
    }

    /// Controllers whose counters are wanted.
    #[must_use]
    pub fn counters(&self) -> &'static [Controller] {
        if self.oom_fail || self.oom_status.is_some() { &[Controller::Memory] } else { &[] }
    }

    /// Which signal is sent first.
    #[must_use]
    pub fn first_signal(&self) -> i32 {
        self.signal.map_or(libc::SIGTERM, |signal| signal.0)
    }

    /// How long the run has after that signal.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.kill_after.map_or(KILL_AFTER, |span| span.0)
    }
}

/// A signal, by name or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalNumber(pub i32);

impl std::str::FromStr for SignalNumber {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "give a signal such as TERM, INT, RTMIN+3 or 15 (kill -l lists them)";
        let from = |base: i32, offset: &str| {
            let offset = if offset.is_empty() { Ok(0) } else { offset.parse::<i32>() };
            offset.ok().and_then(|offset| base.checked_add(offset)).ok_or_else(|| EXAMPLE.to_owned())
        };
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = if let Ok(number) = name.parse::<i32>() {
            number
        } else if let Some(offset) = name.strip_prefix("RTMIN") {
            from(libc::SIGRTMIN(), offset)?
        } else if let Some(offset) = name.strip_prefix("RTMAX") {
            from(libc::SIGRTMAX(), offset)?
        } else {
            let signal: nix::sys::signal::Signal =
                format!("SIG{name}").parse().map_err(|_| EXAMPLE.to_owned())?;
            signal as i32
        };
        if (1..=libc::SIGRTMAX()).contains(&number) { Ok(Self(number)) } else { Err(EXAMPLE.to_owned()) }
    }
}

impl Target {
    /// Reads `json`, `json:FILE`, `text:fd=3`.
    ///
    /// # Errors
    /// What is wrong, with an example.
    pub fn parse(value: &OsStr) -> Result<Self, String> {
        const EXAMPLE: &str = "give text, json, json:FILE or json:fd=N";
        let bytes = value.as_bytes();
        let (format, sink) = match bytes.iter().position(|b| *b == b':') {
            Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..)),
            None => (bytes, None),
        };
        let format = match format {
            b"" | b"text" => Format::Text,
            b"json" => Format::Json,
            _ => return Err(EXAMPLE.to_owned()),
        };
        let sink = match sink {
            None => Sink::Stderr,
            Some(b"") => return Err(EXAMPLE.to_owned()),
            Some(name) => match name.strip_prefix(b"fd=") {
                None => Sink::File(OsStr::from_bytes(name).into()),
                Some(number) => {
                    let number = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
                    Sink::Descriptor(
                        number.filter(|n| *n >= 0).ok_or("give the number of a descriptor: fd=3")?,
                    )
                }
            },
        };
        Ok(Self { format, sink })
    }
}

/// Reads `FILE` or `FILE:INTERVAL`.
///
/// # Errors
/// No file, or an interval that is too short to be cheap.
pub fn record(value: &OsStr) -> Result<(PathBuf, Duration), String> {
    let bytes = value.as_bytes();
    let at = bytes.iter().rposition(|b| *b == b':');
    let tail = at.and_then(|at| std::str::from_utf8(bytes.get(at + 1..)?).ok()?.parse::<Span>().ok());
    let (file, interval) = match (at, tail) {
        (Some(at), Some(span)) => (bytes.get(..at).unwrap_or_default(), span.0),
        _ => (bytes, Duration::from_secs(1)),
    };
    if file.is_empty() {
        return Err("give FILE or FILE:INTERVAL, such as run.json:100ms".to_owned());
    }
    if interval < Duration::from_millis(10) {
        return Err("the shortest interval is 10ms".to_owned());
    }
    Ok((OsStr::from_bytes(file).into(), interval))
}

/// The name of a signal without `SIG`; a real-time one by its number.
#[must_use]
pub fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().trim_start_matches("SIG").to_owned(),
        Err(_) => number.to_string(),
    }
}

/// A limit of time that is longer than nothing.
///
/// # Errors
/// What is wrong, with an example.
pub fn limit_of_time(value: &OsStr) -> Result<Span, String> {
    let span: Span = crate::cli::text(value)?.parse()?;
    if span.0.is_zero() {
        return Err(
            "zero would end the command before it starts; leave the option out for no limit".to_owned()
        );
    }
    Ok(span)
}

/// An exit status.
///
/// # Errors
/// What is wrong, with an example.
pub fn status(value: &OsStr) -> Result<u8, String> {
    let text = crate::cli::text(value)?;
    match text.parse::<u8>() {
        Ok(status) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(status),
        _ => Err("give an exit status from 0 to 255".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        let number = |text: &str| text.parse::<SignalNumber>().map(|signal| signal.0);
        assert_eq!(number("TERM"), Ok(15));
        assert_eq!(number("sigint"), Ok(2));
        assert_eq!(number("9"), Ok(9));
        assert_eq!(number("RTMIN+3"), Ok(37));
        assert_eq!((number("RTMAX"), number("SIGRTMAX-14")), (Ok(64), Ok(50)));
        for wrong in ["", "0", "-1", "65", "TERMINATE", "RTMIN+x", "RTMIN+99", "RTMAX+1"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
        assert_eq!((signal_name(15), signal_name(37)), ("TERM".to_owned(), "37".to_owned()));
    }
}
