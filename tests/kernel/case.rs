//! A case: a name, what it needs, and what it does.

use crate::{fixture::Fixture, needs::Need, report};
use libtest_mimic::{Completion, Failed, Trial};
use std::{panic::catch_unwind, sync::Mutex, time::Instant};

/// One test of the real binary on the real kernel. It fails by panicking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    name: &'static str,
    needs: &'static [Need],
    run: fn(),
}

impl Case {
    pub(crate) const fn new(name: &'static str, needs: &'static [Need], run: fn()) -> Self {
        Self { name, needs, run }
    }

    /// The part of its name before `::`.
    pub(crate) fn module(&self) -> &'static str {
        self.name.split("::").next().unwrap_or_default()
    }

    /// Is this word its name or its module?
    pub(crate) fn is_called(&self, word: &str) -> bool {
        word == self.name || word == self.module()
    }

    pub(crate) fn into_trial(self) -> Trial {
        Trial::ignorable_test(self.name, move || self.judge())
    }

    fn judge(self) -> Result<Completion, Failed> {
        report::begin(self.name);
        let start = Instant::now();
        let unmet = self.needs.iter().find_map(|need| Some((*need, need.unmet()?)));
        let failure = match unmet {
            Some((need, reason)) if need.is_promised() => {
                format!("this guest promises {need}, which the kernel denies: {reason}")
            }
            Some((need, reason)) => {
                let reason = format!("needs {need}: {reason}");
                report::skipped(self.name, &reason);
                return Ok(Completion::ignored_with(reason));
            }
            None => {
                let before = Fixture::before();
                let ran = catch_unwind(self.run).err().map(|_| take_panic());
                match (ran, before.leaked()) {
                    (None, None) => {
                        report::passed(self.name, start.elapsed());
                        return Ok(Completion::Completed);
                    }
                    (broken, leak) => [broken, leak].into_iter().flatten().collect::<Vec<_>>().join("\n"),
                }
            }
        };
        report::failed(self.name, start.elapsed(), &failure);
        Err(failure.into())
    }
}

static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Keeps a case's panic message, with its place, for the result instead of printing it in between.
pub(crate) fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        *PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(text);
    }));
}

fn take_panic() -> String {
    PANIC
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .take()
        .unwrap_or_else(|| "panicked without a message".to_owned())
}
