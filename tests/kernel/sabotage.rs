//! Cases that take their guest down, for the lab to be seen to notice. `RCON_SABOTAGE=NAME` puts one of them in
//! the place of all others; `cargo xtask lab --selftest` does.

use crate::{case::Case, needs::Need};
use std::{
    env, fs,
    fs::OpenOptions,
    io::{Seek, SeekFrom, Write},
    thread,
    time::Duration,
};

/// The one that was asked for, after a case that passes.
pub(crate) fn tests() -> Option<Vec<Case>> {
    let name = env::var("RCON_SABOTAGE").ok()?;
    let case = match name.as_str() {
        "init" => Case::new("sabotage::init", &[Need::Lab, Need::Root], crash_init),
        "hang" => Case::new("sabotage::hang", &[Need::Lab], hang),
        "fill" => Case::new("sabotage::fill", &[Need::Lab], fill),
        _ => panic!("RCON_SABOTAGE={name}: init, hang or fill"),
    };
    Some(vec![Case::new("sabotage::before", &[], || ()), case])
}

/// Overwrites init's program in its memory: the next instruction of it is its last, and the kernel panics.
fn crash_init() {
    let maps = fs::read_to_string("/proc/1/maps").expect("/proc/1/maps");
    let mut memory = OpenOptions::new().write(true).open("/proc/1/mem").expect("/proc/1/mem");
    for line in maps.lines().filter(|line| line.contains(" r-xp ") && line.ends_with("/init")) {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("an address");
        memory.seek(SeekFrom::Start(number(start))).expect("seek");
        memory.write_all(&vec![0; (number(end) - number(start)) as usize]).expect("write");
    }
    println!("this line wakes it");
    hang();
}

fn hang() {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn fill() {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(vec![1; 16 << 20]);
    }
}
