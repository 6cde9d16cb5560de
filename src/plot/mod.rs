//! Drawing a record: panels over time, with the limits as lines. What to draw is decided here, how in the modules.

pub mod svg;
pub mod terminal;

use crate::record::Record;
use crate::report::time;
use crate::value::show_bytes;

/// One curve over the run's time.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it shows.
    pub title: &'static str,
    /// Moments and values; nothing where the kernel told nothing.
    pub points: Vec<(f64, f64)>,
    /// The limit, as a line.
    pub limit: Option<f64>,
    /// A value in words.
    pub show: fn(f64) -> String,
}

impl Panel {
    /// The upper end of the axis: the limit where it is near enough for the curve to be seen below it.
    #[must_use]
    pub fn top(&self) -> f64 {
        let peak = self.peak();
        let top = match self.limit {
            Some(limit) if limit <= peak * 8.0 || peak == 0.0 => peak.max(limit),
            _ => peak,
        };
        if top > 0.0 { top * 1.05 } else { 1.0 }
    }

    /// The largest value.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.points.iter().map(|point| point.1).fold(0.0, f64::max)
    }

    /// The title with the peak and the limit.
    #[must_use]
    pub fn caption(&self) -> String {
        if self.points.is_empty() {
            return format!("{}: n/a (it was not counted)", self.title);
        }
        let limit = self.limit.map_or_else(String::new, |limit| format!(", limit {}", (self.show)(limit)));
        format!("{}: peak {}{limit}", self.title, (self.show)(self.peak()))
    }
}

fn percent(cpus: f64) -> String {
    format!("{:.0}%", cpus * 100.0)
}

fn bytes(value: f64) -> String {
    show_bytes(rounded(value))
}

fn rate(value: f64) -> String {
    format!("{}/s", show_bytes(rounded(value)))
}

fn count(value: f64) -> String {
    format!("{value:.0}")
}

/// Bytes in a picture need no more than three digits.
fn rounded(value: f64) -> u64 {
    let mut unit = 1.0;
    while value / unit >= 1000.0 {
        unit *= 1024.0;
    }
    let digits = if value / unit >= 100.0 || unit == 1.0 { 1.0 } else { 10.0 };
    ((value / unit * digits).round() / digits * unit) as u64
}

/// The panels of a record.
#[must_use]
pub fn panels(record: &Record) -> Vec<Panel> {
    let at = &record.seconds;
    let gauge = |column: &[Option<u64>]| -> Vec<(f64, f64)> {
        at.iter().zip(column).filter_map(|(at, value)| Some((*at, (*value)? as f64))).collect()
    };
    let counter = |column: &[Option<u64>]| rates(&gauge(column));
    let cpu: Vec<(f64, f64)> =
        at.iter().zip(&record.cpu_seconds).filter_map(|(at, value)| Some((*at, (*value)?))).collect();
    vec![
        Panel { title: "CPU", points: rates(&cpu), limit: record.limits.cpus, show: percent },
        Panel {
            title: "memory",
            points: gauge(&record.memory_bytes),
            limit: record.limits.memory_bytes.map(|n| n as f64),
            show: bytes,
        },
        Panel {
            title: "tasks",
            points: gauge(&record.pids),
            limit: record.limits.pids.map(|n| n as f64),
            show: count,
        },
        Panel { title: "read", points: counter(&record.read_bytes), limit: None, show: rate },
        Panel { title: "written", points: counter(&record.written_bytes), limit: None, show: rate },
    ]
}

/// What a counter grew by per second. A last look that comes right after another says nothing of its own.
fn rates(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let whole = points.last().map_or(0.0, |last| last.0);
    let shortest = (whole / 4096.0).max(0.002);
    let mut out = Vec::new();
    let mut before: Option<(f64, f64)> = None;
    for &(at, value) in points {
        let Some(old) = before else {
            before = Some((at, value));
            continue;
        };
        if at - old.0 < shortest {
            continue;
        }
        let rate = ((value - old.1) / (at - old.0)).max(0.0);
        if out.is_empty() {
            out.push((old.0, rate));
        }
        out.push((at, rate));
        before = Some((at, value));
    }
    out
}

/// The headline in at most so many characters: the command, as much of it as there is room for, how long it ran
/// and since when.
#[must_use]
pub fn title(record: &Record, width: usize) -> String {
    let wall = record.seconds.last().copied().unwrap_or(0.0);
    let line = record.command.join(" ");
    let tail = format!(" ({}, started {})", time(wall), record.started_at);
    let room = width.saturating_sub(tail.chars().count());
    if line.chars().count() <= room {
        return line + &tail;
    }
    let short: String = line.chars().take(room.saturating_sub(3)).collect();
    format!("{short}...{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_rates() {
        assert_eq!(rates(&[(0.0, 0.0), (1.0, 0.5), (2.0, 2.5)]), [(0.0, 0.5), (1.0, 0.5), (2.0, 2.0)]);
        assert_eq!(rates(&[(0.0, 3.0)]), []);
        assert_eq!(rates(&[(0.0, 0.0), (1.0, 1.0), (1.0001, 1.1)]), [(0.0, 1.0), (1.0, 1.0)]);
    }

    #[test]
    fn a_far_limit_does_not_flatten_the_curve() {
        let panel = |limit| Panel { title: "x", points: vec![(0.0, 10.0)], limit, show: count };
        assert_eq!(panel(Some(1000.0)).top(), 10.5);
        assert_eq!(panel(Some(20.0)).top(), 21.0);
        assert_eq!(panel(None).caption(), "x: peak 10");
    }
}
