//! `--learn`: runs the command with what the caller has, watches which capabilities the kernel is asked for, and
//! says the shortest `--allow` that it needs.

mod observed;
mod trace;

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;

use crate::capabilities::{self, List, Mask, names};
use crate::cli::Args;
use crate::error::Error;
use crate::guardian::Keeper;
use crate::host::Host;
use crate::outcome::{Ended, Outcome};
use crate::plan::{self, Plan};
use crate::step::Step;
use crate::supervise::{self, Other};
use crate::sys::signals::Signals;
use crate::{say, spawn};
use observed::{Observed, Tally};

/// What `--learn` was asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learn {
    /// Run the command again with what was learned alone.
    pub verify: bool,
}

/// The arguments of a run that is watched: what a user other than root does not have, it cannot be seen to use.
#[must_use]
#[inline(never)]
pub fn widened(args: &Args) -> Box<Args> {
    let mut args = Box::new(args.clone());
    let asked = &mut args.privileges;
    let free = asked.allow.is_none() && asked.drop.is_none() && asked.sets.iter().all(Option::is_none);
    if free && asked.identity.user.is_some() {
        asked.allow = Some(List { all: true, named: 0 });
    }
    args
}

/// Removes what killed watchers have left; the names of it. `dry`: only looks.
pub fn sweep(dry: bool) -> Vec<String> {
    trace::sweep_all(dry)
}

/// Runs the command and watches, says what it needed; and runs it once more with that alone, if that was asked.
///
/// # Errors
/// Whatever keeps the command or the watching from starting.
#[inline(never)]
pub fn run(
    learn: Learn,
    args: &Args,
    plan: &mut Plan,
    signals: Signals,
    keeper: &Keeper,
) -> Result<Outcome, Error> {
    let name = if args.privileges.capcon { "capcon" } else { "rcon" };
    let taken = signals.taken();
    let (outcome, seen) = watch(plan, signals, keeper)?;
    for line in advice(&seen) {
        say(&format!("{name}: {line}"));
    }
    if learn.verify {
        let mut second = args.clone();
        second.privileges.drop = None;
        second.privileges.allow = Some(List { all: false, named: seen.needed() });
        let host = Host::read(Path::new("/"), &second)?;
        let mut plan = plan::plan(&second, &host)?;
        let again = supervise::wait(spawn::start(&mut plan, taken.into_messages())?, &plan, keeper);
        say(&format!("{name}: {}", comparison(outcome.ended, again.ended, seen.needed())));
    }
    Ok(outcome)
}

fn watch(plan: &mut Plan, signals: Signals, keeper: &Keeper) -> Result<(Outcome, Observed), Error> {
    let instance = trace::Instance::new()?;
    let last = plan.steps.len().saturating_sub(1);
    plan.steps.insert(last, Step::Mark(instance.marker(), observed::MARK));
    let seen = Rc::new(RefCell::new((Observed::default(), Vec::new())));
    signals.open().map_err(|errno| Error::new("cannot take signals as messages").errno(errno))?;
    let mut running = spawn::start(plan, signals)?;
    let filling = Rc::clone(&seen);
    running.others.push(Other {
        fd: instance.pipe().map_err(|errno| Error::new("cannot watch the tracing instance").errno(errno))?,
        ready: Box::new(move |pipe| {
            let (observed, rest) = &mut *filling.borrow_mut();
            trace::drain(pipe.as_fd(), observed, rest);
            true
        }),
    });
    let outcome = supervise::wait(running, plan, keeper);
    let (mut observed, mut rest) = std::mem::take(&mut *seen.borrow_mut());
    instance.end(&mut observed, &mut rest)?;
    Ok((outcome, observed))
}

/// What was learned, in lines.
fn advice(seen: &Observed) -> Vec<String> {
    let needed = seen.needed();
    let mut lines = vec![format!("it needs: --allow {}", names(needed))];
    lines.extend(by_capability(&seen.granted).map(|(name, who)| format!("  {name}: {who}")));
    for (name, who) in by_capability(&seen.refused) {
        lines.push(format!("refused: {name}: {who}"));
    }
    for (tally, what) in
        [(&seen.probed, "only probed"), (&seen.of_mounter, "asked of who mounted the overlay, not of it")]
    {
        let uncounted = all(tally) & !needed;
        if uncounted != 0 {
            lines.push(format!("{what}, and not counted: {}", names(uncounted)));
        }
    }
    if seen.lost != 0 {
        lines.push(format!("{} events were lost: something may be missing (--verify tells)", seen.lost));
    }
    lines
}

/// The capabilities in it.
fn all(tally: &Tally) -> Mask {
    tally.keys().fold(0, |mask, (number, _)| mask | 1 << number)
}

/// `bind, 2 times; chown, once`.
fn by_capability(tally: &Tally) -> impl Iterator<Item = (String, String)> {
    capabilities::numbers(all(tally)).map(move |number| {
        let askers: Vec<String> = tally
            .iter()
            .filter(|((of, _), _)| *of == number)
            .map(|((_, command), count)| match count {
                1 => format!("{command}, once"),
                count => format!("{command}, {count} times"),
            })
            .collect();
        (capabilities::name(number), askers.join("; "))
    })
}

fn comparison(first: Ended, second: Ended, allowed: Mask) -> String {
    let say = |ended: Ended| match ended {
        Ended::Exited(status) => format!("status {status}"),
        Ended::Signaled(signal) => format!("signal {signal}"),
    };
    if first == second {
        format!("verified: with --allow {} alone it ended the same way, with {}", names(allowed), say(second))
    } else {
        format!(
            "NOT verified: with --allow {} alone it ended with {}, and before with {}",
            names(allowed),
            say(second),
            say(first)
        )
    }
}
