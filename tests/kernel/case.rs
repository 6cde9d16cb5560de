//! A case: a name, what it needs, and what it does.

use crate::{fixture::Fixture, needs::Need, report};
use libtest_mimic::{Completion, Failed, Trial};
use std::{env, panic::catch_unwind, sync::Mutex, time::Instant};

/// How often a case has to pass that has failed once, to count as unsteady.
const AGAIN: usize = 2;

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
            None => match self.outcome() {
                Ok(()) => {
                    report::passed(self.name, start.elapsed());
                    return Ok(Completion::Completed);
                }
                Err(Broken::Promise(why)) if self.passes_again() => {
                    report::unsteady(self.name, start.elapsed(), &why);
                    return Ok(Completion::Completed);
                }
                Err(Broken::Promise(why) | Broken::Order(why)) => why,
            },
        };
        report::failed(self.name, start.elapsed(), &failure);
        Err(failure.into())
    }

    fn outcome(self) -> Result<(), Broken> {
        let before = Fixture::before();
        let ran = catch_unwind(self.run).err().map(|_| take_panic());
        match (ran, before.leaked()) {
            (None, None) => Ok(()),
            (Some(why), None) => Err(Broken::Promise(why)),
            (broken, Some(leak)) => {
                Err(Broken::Order([broken, Some(leak)].into_iter().flatten().collect::<Vec<_>>().join("\n")))
            }
        }
    }

    /// Does it pass, every time, where `RCON_AGAIN` allows it to fail once? The lab tells of it and counts these.
    fn passes_again(self) -> bool {
        env::var_os("RCON_AGAIN").is_some() && (0..AGAIN).all(|_| self.outcome().is_ok())
    }
}

/// How a case failed.
enum Broken {
    /// What it looked for was not so: by rcon's fault, or by its own on a machine as slow as it did not expect.
    Promise(String),
    /// Something was left behind, which no slowness excuses.
    Order(String),
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
