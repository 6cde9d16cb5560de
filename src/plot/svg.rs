//! As a picture that needs nothing else: no script, no font, no address outside.

use super::{Panel, panels, title};
use crate::record::Record;
use crate::report::time;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const HEIGHT: f64 = 110.0;
const GAP: f64 = 50.0;
const HEAD: f64 = 40.0;

/// The SVG element.
#[must_use]
pub fn draw(record: &Record) -> String {
    let wall = record.seconds.last().copied().unwrap_or(0.0).max(0.001);
    let panels = panels(record);
    let height = HEAD + panels.len() as f64 * (HEIGHT + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escaped(&title(record, 90))
    );
    for (number, one) in panels.iter().enumerate() {
        let top = HEAD + number as f64 * (HEIGHT + GAP) + 20.0;
        panel(one, wall, top, &mut out);
    }
    out.push_str("</svg>\n");
    out
}

/// A page around it.
#[must_use]
pub fn page(record: &Record) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{}</title>\n\
         <style>body {{ margin: 1em; background: #fff; color: #000 }} svg {{ max-width: 100%; height: auto }}</style></head>\n\
         <body>\n{}</body>\n</html>\n",
        escaped(&title(record, 90)),
        draw(record)
    )
}

fn panel(panel: &Panel, wall: f64, top: f64, out: &mut String) {
    let (right, bottom) = (WIDTH - RIGHT, top + HEIGHT);
    out.push_str(&format!("<text x=\"{LEFT}\" y=\"{}\">{}</text>\n", top - 6.0, escaped(&panel.caption())));
    if panel.points.is_empty() {
        return;
    }
    let most = panel.top();
    let x = |at: f64| LEFT + at / wall * (right - LEFT);
    let y = |value: f64| bottom - value / most * HEIGHT;
    let label = |at: f64, text: &str| {
        format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\">{text}</text>\n",
            LEFT - 6.0,
            at + 4.0
        )
    };
    let mut area = format!("M{LEFT},{bottom}");
    for (at, value) in &panel.points {
        area.push_str(&format!(" L{:.1},{:.1}", x(*at), y(*value)));
    }
    let last = panel.points.last().map_or(LEFT, |point| x(point.0));
    out.push_str(&format!(
        "<path d=\"{area} L{last:.1},{bottom} Z\" fill=\"#9ecae1\" stroke=\"#2171b5\" stroke-width=\"1\"/>\n"
    ));
    out.push_str(&format!("<path d=\"M{LEFT},{top} V{bottom} H{right}\" fill=\"none\" stroke=\"#444\"/>\n"));
    out.push_str(&label(bottom, "0"));
    match panel.limit.filter(|limit| *limit <= most) {
        Some(limit) => {
            let line = y(limit);
            out.push_str(&format!(
                "<path d=\"M{LEFT},{line:.1} H{right}\" fill=\"none\" stroke=\"#cb181d\" stroke-dasharray=\"6 4\"/>\n"
            ));
            out.push_str(&label(line, &escaped(&(panel.show)(limit))));
        }
        // At the height where it is: the axis goes on a little above.
        None if panel.peak() > 0.0 => {
            out.push_str(&label(y(panel.peak()), &escaped(&(panel.show)(panel.peak()))));
        }
        None => {}
    }
    for (at, anchor, text) in [(LEFT, "start", "0".to_owned()), (right, "end", time(wall))] {
        out.push_str(&format!(
            "<text x=\"{at}\" y=\"{}\" text-anchor=\"{anchor}\" font-size=\"11\">{text}</text>\n",
            bottom + 14.0
        ));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_line_stays_text() {
        let record = Record { command: vec!["</text><script>&\"".to_owned()], ..Record::default() };
        for picture in [draw(&record), page(&record)] {
            assert!(!picture.contains("<script"), "{picture}");
            assert!(picture.contains("&lt;/text&gt;&lt;script&gt;&amp;&quot;"), "{picture}");
        }
    }
}
