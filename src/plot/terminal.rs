//! In a terminal: columns of block characters, eight levels to a row; `#` where the locale knows no others.

use super::{Panel, panels, title};
use crate::record::Record;
use crate::report::time;

/// Rows of one panel.
const ROWS: usize = 6;
/// Columns left of the axis.
const MARGIN: usize = 9;

/// How it is to look.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Columns of the terminal.
    pub width: usize,
    /// Block and line characters may be used.
    pub unicode: bool,
}

/// The whole picture, with its newlines.
#[must_use]
pub fn draw(record: &Record, style: Style) -> String {
    let wall = record.seconds.last().copied().unwrap_or(0.0);
    let mut lines = vec![clipped(&title(record, style.width), style.width)];
    for panel in panels(record) {
        lines.push(String::new());
        lines.push(clipped(&format!("{:MARGIN$} {}", "", panel.caption()), style.width));
        if !panel.points.is_empty() {
            rows(&panel, wall, style, &mut lines);
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn clipped(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

fn rows(panel: &Panel, wall: f64, style: Style, lines: &mut Vec<String>) {
    let columns = style.width.saturating_sub(MARGIN + 2).max(10);
    let heights = heights(panel, wall, columns);
    let top = panel.top();
    let level = |value: f64| value / top * ROWS as f64;
    let limit_row =
        panel.limit.filter(|limit| *limit <= top).map(|limit| (level(limit) as usize).min(ROWS - 1));
    let (axis, corner, floor, line) =
        if style.unicode { ('│', '└', '─', '╌') } else { ('|', '+', '-', '-') };
    for row in (0..ROWS).rev() {
        let label = match row {
            _ if limit_row == Some(row) => panel.limit.map(|limit| (panel.show)(limit)).unwrap_or_default(),
            _ if row == ROWS - 1 && panel.peak() > 0.0 => (panel.show)(panel.peak()),
            0 => "0".to_owned(),
            _ => String::new(),
        };
        let mut text = format!("{label:>MARGIN$} {axis}");
        for height in &heights {
            let part = level(*height) - row as f64;
            text.push(match block(part, style.unicode) {
                ' ' if limit_row == Some(row) => line,
                block => block,
            });
        }
        lines.push(text.trim_end().to_owned());
    }
    let floor: String = std::iter::repeat_n(floor, columns).collect();
    lines.push(format!("{:MARGIN$} {corner}{floor}", ""));
    let end = time(wall);
    let gap = columns.saturating_sub(end.chars().count() + 1);
    lines.push(format!("{:MARGIN$}  0{:gap$}{end}", "", ""));
}

/// How much of a row is filled, from 0 to 1.
fn block(part: f64, unicode: bool) -> char {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let eighths = (part.clamp(0.0, 1.0) * 8.0).round() as usize;
    match (unicode, eighths) {
        (true, eighths) => BLOCKS.get(eighths).copied().unwrap_or('█'),
        (false, 0..4) => ' ',
        (false, _) => '#',
    }
}

/// The largest value in each column's span of time; between two samples it is drawn to the later one.
fn heights(panel: &Panel, wall: f64, columns: usize) -> Vec<f64> {
    let span = wall.max(0.001) / columns as f64;
    let mut rest = panel.points.iter().copied().peekable();
    let mut current = panel.points.first().map_or(0.0, |point| point.1);
    (1..=columns)
        .map(|column| {
            let end = span * column as f64;
            let mut most: Option<f64> = None;
            while let Some((_, value)) = rest.next_if(|(at, _)| *at <= end) {
                most = Some(most.map_or(value, |most| most.max(value)));
                current = value;
            }
            // Nothing fell into it: what the next sample says of the time before it.
            most.or_else(|| rest.peek().map(|next| next.1)).unwrap_or(current)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let seconds: Vec<f64> = (0..=10).map(f64::from).collect();
        Record {
            record_version: 1,
            command: vec!["make".to_owned(), "test".to_owned()],
            started_at: "2026-01-01T00:00:00Z".to_owned(),
            limits: crate::record::Limits { cpus: Some(0.5), memory_bytes: Some(100 << 20), pids: None },
            cpu_seconds: seconds.iter().map(|at| Some(at * 0.25)).collect(),
            memory_bytes: (0..=10).map(|n| Some(n * (10 << 20))).collect(),
            pids: vec![None; 11],
            read_bytes: vec![Some(0); 11],
            written_bytes: vec![None; 11],
            seconds,
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [20, 40, 80, 200] {
            for unicode in [true, false] {
                let picture = draw(&record(), Style { width, unicode });
                assert!(unicode || picture.is_ascii(), "{picture}");
                for line in picture.lines() {
                    assert!(line.chars().count() <= width.max(21), "{width}: {line:?}");
                }
            }
        }
    }

    #[test]
    fn limits_are_lines_and_absence_is_said() {
        let picture = draw(&record(), Style { width: 80, unicode: true });
        assert!(picture.contains("CPU: peak 25%, limit 50%"), "{picture}");
        assert!(picture.contains("50% │╌╌╌"), "{picture}");
        assert!(picture.contains("tasks: n/a"), "{picture}");
        assert!(picture.contains("read: peak 0B/s"), "{picture}");
    }
}
