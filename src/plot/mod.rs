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
    /// Moments and values; nothing where the kernel told nothing, or a rate has too few looks.
    pub points: Vec<(f64, f64)>,
    /// Was it counted at all?
    pub counted: bool,
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
            let why = if self.counted { "the run was too short for it" } else { "it was not counted" };
            return format!("{}: n/a ({why})", self.title);
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
    let cpu: Vec<(f64, f64)> =
        at.iter().zip(&record.cpu_seconds).filter_map(|(at, value)| Some((*at, (*value)?))).collect();
    let level = |title, points: Vec<_>, limit: Option<u64>, show| {
        let (counted, limit) = (!points.is_empty(), limit.map(|n| n as f64));
        Panel { title, points, counted, limit, show }
    };
    let change = |title, points: Vec<_>, limit, show| Panel {
        title,
        counted: !points.is_empty(),
        points: rates(&points),
        limit,
        show,
    };
    vec![
        change("CPU", cpu, record.limits.cpus, percent as fn(f64) -> String),
        level("memory", gauge(&record.memory_bytes), record.limits.memory_bytes, bytes),
        level("tasks", gauge(&record.pids), record.limits.pids, count),
        change("read", gauge(&record.read_bytes), None, rate),
        change("written", gauge(&record.written_bytes), None, rate),
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
        let panel =
            |limit| Panel { title: "x", points: vec![(0.0, 10.0)], counted: true, limit, show: count };
        assert_eq!(panel(Some(1000.0)).top(), 10.5);
        assert_eq!(panel(Some(20.0)).top(), 21.0);
        assert_eq!(panel(None).caption(), "x: peak 10");
    }
}
