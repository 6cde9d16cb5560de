//! One error type: what was asked, what we did, on what, what the kernel answered, and the way out.

use std::fmt;

use nix::errno::Errno;

/// Why the command did not run; decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// We failed, or were asked for something that cannot be: 125.
    Ours,
    /// The command was found but cannot be executed: 126.
    NotExecutable,
    /// The command was not found: 127.
    NotFound,
}

/// A failure in words for people. Built with [`Error::new`] and the methods that add to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The option that asked for it, as the user spelled it: `--mem 256M`.
    pub option: Option<String>,
    /// What happened, as a clause.
    pub what: String,
    /// The kernel's answer.
    pub errno: Option<Errno>,
    /// What to do about it; printed on a line of its own.
    pub way_out: Option<String>,
    /// Decides the exit status.
    pub class: Class,
}

impl Error {
    /// An error of ours that says `what`.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { option: None, what: what.into(), errno: None, way_out: None, class: Class::Ours }
    }

    /// Names the option that asked for it.
    #[must_use]
    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.option = Some(option.into());
        self
    }

    /// Adds the kernel's answer.
    #[must_use]
    pub fn errno(mut self, errno: Errno) -> Self {
        self.errno = Some(errno);
        self
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn try_this(mut self, way_out: impl Into<String>) -> Self {
        self.way_out = Some(way_out.into());
        self
    }

    /// Adds what the user can do, if there is something.
    #[must_use]
    pub fn try_if(mut self, way_out: Option<impl Into<String>>) -> Self {
        self.way_out = way_out.map(Into::into).or(self.way_out);
        self
    }

    /// Sets what the exit status says.
    #[must_use]
    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// The exit status that belongs to this error.
    #[must_use]
    pub fn status(&self) -> i32 {
        match self.class {
            Class::Ours => 125,
            Class::NotExecutable => 126,
            Class::NotFound => 127,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rcon: ")?;
        if let Some(option) = &self.option {
            write!(f, "{option}: ")?;
        }
        f.write_str(&self.what)?;
        if let Some(errno) = self.errno {
            write!(f, ": {}", errno.desc())?;
        }
        if let Some(way_out) = &self.way_out {
            write!(f, "\ntry: {way_out}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Text from outside made safe for a terminal: control characters and bytes that are no UTF-8 are escaped.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c)
            {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}
