//! The kernel lab: the project's tests, inside each guest.

use crate::{
    Result,
    engine::{self, Heard, POWER_OFF, Running},
    guest::Kind,
    guests::{GUESTS, Guest, Machine},
    junit, matrix,
    payload::Payload,
    prepare::{self, Places, Ready},
    results::{Counts, GuestResult},
    selftest, table,
    wire::Message,
};
use clap::ArgMatches;
use std::{
    collections::VecDeque,
    fs,
    sync::{Mutex, mpsc::RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// How many cases may fail once (tests/kernel/case.rs), in all guests together: one in a thousand is a slow machine,
/// more of them are not.
const UNSTEADY: usize = 2;

/// What to run.
#[derive(Debug, Default)]
pub(crate) struct Order<'a> {
    pub(crate) guests: Vec<&'static Guest>,
    pub(crate) filter: Option<&'a str>,
    pub(crate) jobs: usize,
    pub(crate) time_limit: Duration,
    /// Every case in every guest, also where another guest's layout is as good.
    pub(crate) all: bool,
    /// More for the guests' kernel command line, and for the tests' environment.
    pub(crate) words: &'a str,
    pub(crate) environment: Vec<(String, String)>,
    /// The benchmark of whole runs in place of the tests.
    pub(crate) bench: bool,
}

impl<'a> Order<'a> {
    /// From the arguments that `lab` and `test` have in common.
    pub(crate) fn from(args: &'a ArgMatches) -> Self {
        let systemd = !args.get_flag("no-systemd");
        Self {
            guests: GUESTS.iter().filter(|guest| systemd || !guest.has_systemd()).collect(),
            jobs: *args.get_one("jobs").unwrap_or(&2),
            time_limit: Duration::from_secs(*args.get_one("time-limit").unwrap_or(&1200)),
            filter: args.get_one::<String>("filter").map(String::as_str),
            environment: args
                .get_flag("again")
                .then(|| ("RCON_AGAIN".to_owned(), "1".to_owned()))
                .into_iter()
                .collect(),
            ..Self::default()
        }
    }
}

pub(crate) fn main(args: &ArgMatches) -> Result<bool> {
    if args.get_flag("list") {
        for guest in GUESTS {
            println!("{:20} {}", guest.name, guest.what);
        }
        return Ok(true);
    }
    if let Some(name) = args.get_one::<String>("shell") {
        return shell(named(name)?);
    }
    let places = Places::find()?;
    if args.get_flag("selftest") {
        return selftest::main(&places);
    }
    let mut order =
        Order { all: !args.get_flag("share"), bench: args.get_flag("bench"), ..Order::from(args) };
    let only: Vec<&'static Guest> =
        args.get_many::<String>("only").unwrap_or_default().map(|name| named(name)).collect::<Result<_>>()?;
    if !only.is_empty() {
        order.guests = only;
    }
    let results = run(&places, &order)?;
    if order.bench {
        return Ok(results.iter().all(|result| result.trouble.is_none()));
    }
    let (counts, fine) = conclude(&places, &results)?;
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    Ok(fine)
}

fn named(name: &str) -> Result<&'static Guest> {
    Guest::named(name).ok_or_else(|| format!("no guest {name:?}: see cargo xtask lab --list"))
}

/// Runs the tests in each guest, several guests at a time; this machine first and by itself.
pub(crate) fn run(places: &Places, order: &Order<'_>) -> Result<Vec<GuestResult>> {
    engine::sweep().map_err(|error| format!("removing what an earlier lab left: {error}"))?;
    // What is missing is said before minutes of building.
    let ready = prepare::prepare(places, &order.guests)?;
    let payload = if order.bench { Payload::bench(places)? } else { Payload::build(places)? };
    let (here, guests): (Vec<&'static Guest>, Vec<_>) =
        order.guests.iter().partition(|guest| guest.machine == Machine::Host);
    let visit = |guest| visit(places, &ready, &payload, guest, order);
    let mut results: Vec<GuestResult> = here.into_iter().map(visit).collect();
    let waiting = Mutex::new(VecDeque::from(guests));
    let done = Mutex::new(Vec::new());
    let next = || waiting.lock().ok()?.pop_front();
    thread::scope(|scope| {
        for _ in 0..order.jobs.max(1) {
            scope.spawn(|| {
                while let Some(guest) = next() {
                    let result = visit(guest);
                    done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(result);
                }
            });
        }
    });
    results.extend(done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let place = |name: &str| GUESTS.iter().position(|guest| guest.name == name);
    results.sort_by_key(|result| place(result.guest));
    Ok(results)
}

/// One guest from boot to power-off. Once more where its clock ran away, as an emulated one may on a busy machine that
/// is emulated itself: time limits end at once there, and nothing that the guest says counts.
fn visit(
    places: &Places,
    ready: &Ready,
    payload: &Payload,
    guest: &'static Guest,
    order: &Order<'_>,
) -> GuestResult {
    let mut result = visit_once(places, ready, payload, guest, order);
    if result.clock_ran_away() {
        say(guest.name, "its clock ran faster than this machine's: what it said does not count, once more");
        result = visit_once(places, ready, payload, guest, order);
        if result.clock_ran_away() {
            result
                .trouble
                .get_or_insert_with(|| "its clock ran faster than this machine's, twice".to_owned());
        }
    }
    result
}

fn visit_once(
    places: &Places,
    ready: &Ready,
    payload: &Payload,
    guest: &'static Guest,
    order: &Order<'_>,
) -> GuestResult {
    let start = Instant::now();
    let mut result = GuestResult::new(guest.name);
    let job = payload.job(places, guest, Kind::Tests, order);
    match engine::start(places, ready, guest, &job, order.words) {
        Ok(mut running) => {
            if let Err(trouble) = listen(&mut running, &mut result, order) {
                result.trouble = Some(format!("{trouble}{}", last_output(&running)));
            }
        }
        Err(trouble) => result.trouble = Some(trouble),
    }
    result.close();
    result.took = start.elapsed();
    if let Some(trouble) = &result.trouble {
        say(guest.name, &format!("GUEST FAILED: {trouble}"));
    }
    result
}

/// Follows a guest to its end.
///
/// # Errors
/// Why it did not end as it should.
fn listen(running: &mut Running, result: &mut GuestResult, order: &Order<'_>) -> Result<()> {
    let time_limit = order.time_limit;
    let deadline = Instant::now() + time_limit;
    let mut hellos = 0;
    let mut status = None;
    let mut ended = false;
    while status.is_none() {
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(format!("still running after {} s: ended", time_limit.as_secs()));
        }
        match running.messages.recv_timeout(rest.min(Duration::from_secs(2))) {
            Ok(Heard::Noise(line)) => running.noise.push(line),
            Ok(Heard::Message(message)) => match message {
                Message::Hello if hellos == 0 => hellos += 1,
                Message::Hello => return Err("it was booted a second time".to_owned()),
                Message::Output(line) => say(result.guest, &line),
                Message::Report(line) => {
                    result.report(&line).map_err(|line| format!("not a line of a report: {line:?}"))?;
                }
                Message::Trouble(trouble) => return Err(trouble),
                Message::Exit(code) => status = Some(code),
            },
            // Its last words may still be on their way: one more round.
            Err(RecvTimeoutError::Timeout) if !ended => ended = gone(running),
            Err(RecvTimeoutError::Timeout) => {
                return Err("the machine ended before its tests did".to_owned());
            }
            Err(RecvTimeoutError::Disconnected) => {
                gone_soon(running); // so that its last words are in the console's file
                return Err("it fell silent before its tests had ended".to_owned());
            }
        }
    }
    let (status, counts) = (status.unwrap_or(-1), result.counts());
    match status {
        _ if result.running.is_some() => Err(format!("the tests ended in the middle, with status {status}")),
        // libtest-mimic's status of a run with failures
        0 if counts.failed == 0 => Ok(()),
        101 if counts.failed > 0 => Ok(()),
        _ => Err(format!("the tests ended with status {status}")),
    }
    .and_then(|()| match result.cases.is_empty() && !order.bench {
        true => Err("no test ran".to_owned()),
        false => Ok(()),
    })
    .and_then(|()| match running.process.is_none() || gone_soon(running) {
        true => Ok(()),
        false => Err("it did not switch itself off".to_owned()),
    })
}

/// Has the guest's process ended? This machine itself never has.
fn gone(running: &mut Running) -> bool {
    running.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(Some(_))))
}

fn gone_soon(running: &mut Running) -> bool {
    let deadline = Instant::now() + POWER_OFF;
    while !gone(running) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    gone(running)
}

fn last_output(running: &Running) -> String {
    let Some(console) = &running.console else { return String::new() };
    let text =
        fs::read(console).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    // a panic's first line says why; what follows it may be long
    let panic = lines.iter().rposition(|line| line.contains("Kernel panic"));
    let from = lines.len().saturating_sub(20).min(panic.unwrap_or(lines.len()));
    let tail = lines[from..].join("\n    ");
    format!("\n  last lines of {}:\n    {tail}", console.display())
}

/// One line of one guest: lines of several guests may alternate.
fn say(guest: &str, line: &str) {
    println!("{guest:19} | {line}");
}

/// Writes the JUnit file, prints the matrix, and tells whether all is well.
pub(crate) fn conclude(places: &Places, results: &[GuestResult]) -> Result<(Counts, bool)> {
    let file = places.lab.join("junit.xml");
    fs::write(&file, junit::write(results)).map_err(|error| format!("{}: {error}", file.display()))?;
    println!("{}", matrix::draw(results));
    let mut counts = Counts::default();
    for result in results {
        counts += result.counts();
        if let Some(trouble) = &result.trouble {
            counts.failed += 1;
            println!("FAILED: guest {}: {trouble}\n", result.guest);
        }
    }
    let unsteady: Vec<_> = results.iter().flat_map(GuestResult::unsteady).collect();
    for (guest, case, why) in &unsteady {
        println!("UNSTEADY: {guest}: {case}: failed once, then passed each time: {why}\n");
    }
    if unsteady.len() > UNSTEADY {
        println!("FAILED: {} cases are unsteady, and at most {UNSTEADY} may be\n", unsteady.len());
        counts.failed += unsteady.len();
    }
    let idle = matrix::ran_nowhere(results);
    // Only who has been everywhere can say so.
    if !idle.is_empty() && results.len() == GUESTS.len() {
        println!("FAILED: skipped in every guest, so proved nowhere: {}\n", idle.join(", "));
        counts.failed += idle.len();
    } else if !idle.is_empty() {
        println!("skipped in every guest of this selection: {}\n", idle.join(", "));
    }
    if table::is_whole(results) {
        let table = places.lab.join("where.md");
        fs::write(&table, table::draw(results)).map_err(|error| format!("{}: {error}", table.display()))?;
    }
    println!("results: {}", file.display());
    Ok((counts, counts.failed == 0 && !results.iter().any(GuestResult::failed)))
}

fn shell(guest: &'static Guest) -> Result<bool> {
    if guest.machine == Machine::Host {
        return Err("the host is where you are".to_owned());
    }
    let places = Places::find()?;
    let payload = Payload::build(&places)?;
    let ready = prepare::prepare(&places, &[guest])?;
    let job = payload.job(&places, guest, Kind::Shell, &Order::default());
    println!("{}: {}; the tests are in $RCON_TESTS; leave with exit or Ctrl-D", guest.name, guest.what);
    let mut running = engine::start(&places, &ready, guest, &job, "")?;
    let process = running.process.as_mut().ok_or("no process")?;
    process.wait().map_err(|error| error.to_string())?;
    Ok(true)
}
