//! What a guest's agent tells the lab: one line per message over a serial port.

use std::{fmt, io::Write, sync::Mutex};

/// One message. Lines that are none belong to the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The agent is up. A second one means that the guest was booted again behind our back.
    Hello,
    /// A line that the tests printed.
    Output(String),
    /// A line of the tests' report (tests/kernel/report.rs).
    Report(String),
    /// Something that the lab itself could not do in the guest: a failure of the guest.
    Trouble(String),
    /// The test binary ended with this status.
    Exit(i32),
}

impl Message {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (kind, text) = line.strip_prefix('@')?.split_once(' ')?;
        Some(match kind {
            "hello" => Self::Hello,
            "output" => Self::Output(text.to_owned()),
            "report" => Self::Report(text.to_owned()),
            "trouble" => Self::Trouble(text.to_owned()),
            "exit" => Self::Exit(text.parse().ok()?),
            _ => return None,
        })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello => f.write_str("@hello "),
            Self::Output(text) => write!(f, "@output {text}"),
            Self::Report(text) => write!(f, "@report {text}"),
            Self::Trouble(text) => write!(f, "@trouble {text}"),
            Self::Exit(status) => write!(f, "@exit {status}"),
        }
    }
}

/// Where an agent's messages go: a serial port, or straight to the collector on this machine.
pub(crate) trait Sink: Send + Sync {
    fn send(&self, message: Message);
}

/// Messages as lines.
pub(crate) struct Lines<W: Write + Send>(pub(crate) Mutex<W>);

impl<W: Write + Send> Sink for Lines<W> {
    fn send(&self, message: Message) {
        let text = format!("{}\n", message.to_string().replace('\n', " "));
        let mut port = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Nobody to tell: the lab sees a guest without an exit and reports the console.
        port.write_all(text.as_bytes()).and_then(|()| port.flush()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_line() {
        let all = [
            Message::Hello,
            Message::Output("test a ... ok".to_owned()),
            Message::Output(String::new()),
            Message::Report("pass\ta\t12".to_owned()),
            Message::Trouble("no disk".to_owned()),
            Message::Exit(101),
        ];
        for message in all {
            assert_eq!(Message::parse(&message.to_string()), Some(message));
        }
        assert_eq!(Message::parse("[    0.1] Kernel panic"), None);
        assert_eq!(Message::parse("@exit soon"), None);
    }
}
