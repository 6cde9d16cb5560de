//! Runs the test binary and forwards what it prints and reports, line by line.

use crate::{
    Result,
    wire::{Message, Sink},
};
use nix::{sys::stat::Mode, sys::wait::waitpid, unistd::mkfifo};
use std::{
    fs::{self, OpenOptions, Permissions},
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

/// The line by which the reader of the report ends.
const END: &str = "end of report";

/// Runs `command` to its end with its report going to a FIFO at `report`, and tells its exit status.
///
/// # Errors
/// What kept it from being run, in words.
pub(crate) fn run_tests(mut command: Command, report: &Path, sink: Arc<dyn Sink>) -> Result<()> {
    mkfifo(report, Mode::from_bits_truncate(0o600)).map_err(|error| format!("mkfifo: {error}"))?;
    // the tests may run as another user; the umask is not asked
    fs::set_permissions(report, Permissions::from_mode(0o666)).map_err(|error| format!("chmod: {error}"))?;
    // Opened both ways: neither side waits for the other, and no writer's end is the end of it.
    let mut fifo =
        OpenOptions::new().read(true).write(true).open(report).map_err(|error| format!("fifo: {error}"))?;
    let reader = fifo.try_clone().map_err(|error| format!("fifo: {error}"))?;
    let to = Arc::clone(&sink);
    let reports = thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(std::result::Result::ok) {
            if line == END {
                break;
            }
            to.send(Message::Report(line));
        }
    });

    command.env("RCON_KERNEL_REPORT", report);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|error| format!("{}: {error}", crate::shell::describe(&command)))?;
    let (done, ended) = mpsc::channel();
    if let Some(stream) = child.stdout.take() {
        forward(stream, &sink, done.clone());
    }
    if let Some(stream) = child.stderr.take() {
        forward(stream, &sink, done);
    }
    let status = wait(child)?;
    // What the tests left running may hold the streams open for ever.
    for _ in 0..2 {
        if ended.recv_timeout(Duration::from_secs(2)).is_err() {
            break;
        }
    }
    writeln!(fifo, "{END}").map_err(|error| format!("fifo: {error}"))?;
    reports.join().map_err(|_| "the reader of the report panicked")?;
    fs::remove_file(report).map_err(|error| format!("{}: {error}", report.display()))?;
    sink.send(Message::Exit(status));
    Ok(())
}

fn forward(stream: impl Read + Send + 'static, sink: &Arc<dyn Sink>, done: mpsc::Sender<()>) {
    let sink = Arc::clone(sink);
    thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            sink.send(Message::Output(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned()));
            line.clear();
        }
        done.send(()).ok();
    });
}

/// The status as a shell shows it. As init, whatever was orphaned is reaped on the way.
fn wait(mut child: Child) -> Result<i32> {
    if std::process::id() != 1 {
        let status = child.wait().map_err(|error| format!("wait: {error}"))?;
        return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
    }
    loop {
        use nix::sys::wait::WaitStatus::{Exited, Signaled};
        match waitpid(None, None) {
            Ok(Exited(pid, status)) if pid.as_raw() == child.id() as i32 => return Ok(status),
            Ok(Signaled(pid, signal, _)) if pid.as_raw() == child.id() as i32 => {
                return Ok(128 + signal as i32);
            }
            // Some orphan, reaped; EINVAL: one that died of a real-time signal, which has no name.
            Ok(_) | Err(nix::errno::Errno::EINVAL) => {}
            Err(error) => return Err(format!("wait: {error}")),
        }
    }
}
