//! The result of each case as a line that a program reads: the lab's matrix and JUnit files are made of it.
//!
//! `RCON_KERNEL_REPORT` names a file or FIFO; lines are appended as things happen, so that a case which takes
//! the machine down is known by its `begin` without an end. Fields are separated by tabs:
//! `begin NAME`, `pass NAME MILLISECONDS`, `fail NAME MILLISECONDS MESSAGE`, `unsteady NAME MILLISECONDS MESSAGE` (failed
//! with this message, then passed again and again), `skip NAME REASON`.
//! Tabs, newlines and backslashes in texts are written `\t`, `\n`, `\\`.

use std::{env, fs::OpenOptions, io::Write, time::Duration};

pub(crate) fn begin(name: &str) {
    line(&["begin", name]);
}

pub(crate) fn passed(name: &str, took: Duration) {
    line(&["pass", name, &took.as_millis().to_string()]);
}

pub(crate) fn failed(name: &str, took: Duration, message: &str) {
    line(&["fail", name, &took.as_millis().to_string(), message]);
}

pub(crate) fn unsteady(name: &str, took: Duration, message: &str) {
    line(&["unsteady", name, &took.as_millis().to_string(), message]);
}

pub(crate) fn skipped(name: &str, reason: &str) {
    line(&["skip", name, reason]);
}

fn line(fields: &[&str]) {
    let Some(path) = env::var_os("RCON_KERNEL_REPORT") else { return };
    let escaped: Vec<String> = fields.iter().map(|field| escape(field)).collect();
    let text = escaped.join("\t") + "\n";
    // One write per line: what a crash leaves behind is whole lines.
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .unwrap_or_else(|error| panic!("RCON_KERNEL_REPORT={}: {error}", path.display()));
}

fn escape(field: &str) -> String {
    field.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n")
}
