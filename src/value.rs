//! Typed values of the command line: each parses from a word, prints as a word that parses to the same value,
//! and carries its unit in its type. No I/O.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// CPU time per wall time, in millionths of one CPU: `30%` is 300 000, `1.5cpus` 1 500 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu {
    /// Millionths of one CPU; never zero.
    pub millionths: u64,
}

impl Cpu {
    /// The quota in µs that this share has in a period of `period_us` µs (Documentation/scheduler/sched-bwc.rst).
    #[must_use]
    pub fn quota_us(self, period_us: u64) -> u64 {
        let product = u128::from(self.millionths) * u128::from(period_us);
        u64::try_from(product / 1_000_000).unwrap_or(u64::MAX)
    }
}

impl FromStr for Cpu {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "give a share of one CPU such as 30% or a number of CPUs such as 1.5cpus";
        let (number, scale) = if let Some(number) = text.strip_suffix('%') {
            (number, 10_000)
        } else if let Some(number) = text.strip_suffix("cpus").or_else(|| text.strip_suffix("cpu")) {
            (number, 1_000_000)
        } else if decimal(text, 1).is_some() {
            return Err(format!("a bare number says no unit: write {text}% (of one CPU) or {text}cpus"));
        } else {
            return Err(EXAMPLE.to_owned());
        };
        match decimal(number, scale) {
            Some(0) => Err(format!("zero or too small to tell from zero; {EXAMPLE}")),
            Some(millionths) if millionths <= 1_000_000_000_000 => Ok(Self { millionths }),
            Some(_) => Err("more than a million CPUs".to_owned()),
            None => Err(EXAMPLE.to_owned()),
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.millionths / 10_000, self.millionths % 10_000);
        if rest == 0 {
            write!(f, "{whole}%")
        } else {
            let digits = format!("{rest:04}");
            write!(f, "{whole}.{}%", digits.trim_end_matches('0'))
        }
    }
}

/// `12.5` times `scale`, exactly, or nothing: no sign, no exponent, no second dot, at least one digit.
fn decimal(text: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
        return None;
    }
    let mut value = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let mut unit = scale;
    for digit in fraction.bytes() {
        let (next, rest) = (unit / 10, unit % 10);
        if rest != 0 || next == 0 {
            // Finer than the kernel can be told: only zeros may follow.
            if digit != b'0' {
                return None;
            }
            continue;
        }
        unit = next;
        value = value.checked_add(u64::from(digit - b'0').checked_mul(unit)?)?;
    }
    Some(value)
}

/// A size in bytes, a share of the memory there is, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Bytes.
    Bytes(u64),
    /// Hundredths of a percent of the machine's memory, or of the enclosing group's limit where that is lower.
    Percent(u64),
    /// `max`: no limit.
    Max,
}

/// Bytes from a word: `K`, `M`, `G`, `T` and `KiB`… are powers of 1024 (as the kernel, systemd and docker read
/// them), `KB`, `MB`… powers of 1000.
///
/// # Errors
/// Says what is wrong and shows a right example.
pub fn bytes(text: &str) -> Result<u64, String> {
    const EXAMPLE: &str = "give a size such as 256M, 1.5G, 64KiB or 4096";
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || number.ends_with('.') || fraction.contains('.') {
        return Err(EXAMPLE.to_owned());
    }
    // bytesize reads `M` as 10^6; only the spelled-out decimal units may mean that here.
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => "B",
        "k" | "ki" | "kib" => "KiB",
        "m" | "mi" | "mib" => "MiB",
        "g" | "gi" | "gib" => "GiB",
        "t" | "ti" | "tib" => "TiB",
        "p" | "pi" | "pib" => "PiB",
        "kb" => "KB",
        "mb" => "MB",
        "gb" => "GB",
        "tb" => "TB",
        "pb" => "PB",
        _ => return Err(format!("unknown unit {unit:?}; {EXAMPLE}")),
    };
    if number.contains('.') && unit == "B" {
        return Err("a byte cannot be split".to_owned());
    }
    // bytesize knows the units; its numbers go through floating point, ours are exact.
    let unit = bytesize::ByteSize::from_str(&format!("1 {unit}")).map_err(|_| EXAMPLE.to_owned())?.as_u64();
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(unit);
    // The eighteenth digit is below one byte of any unit.
    let digits = fraction.get(..18).unwrap_or(fraction);
    let part = u128::from(digits.parse::<u64>().unwrap_or(0)) * u128::from(unit);
    let part = part / 10_u128.pow(u32::try_from(digits.len()).unwrap_or(0));
    let value = whole.saturating_add(u64::try_from(part).unwrap_or(u64::MAX));
    if value > i64::MAX as u64 { Err("larger than any memory (8 EiB)".to_owned()) } else { Ok(value) }
}

/// Bytes as people write them: the largest unit that divides them, else one decimal.
#[must_use]
pub fn show_bytes(value: u64) -> String {
    const UNITS: [(&str, u64); 5] =
        [("P", 1 << 50), ("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];
    for (unit, size) in UNITS {
        if value >= size && value.is_multiple_of(size) {
            return format!("{}{unit}", value / size);
        }
    }
    for (unit, size) in UNITS {
        if value >= size {
            let tenths = u128::from(value) * 10 / u128::from(size);
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{value}B")
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        if let Some(number) = text.strip_suffix('%') {
            return match decimal(number, 100) {
                Some(0) | None => Err("give a percentage such as 25% (of the memory there is)".to_owned()),
                Some(hundredths) if hundredths <= 10_000 => Ok(Self::Percent(hundredths)),
                Some(_) => Err("more than 100% of the memory there is".to_owned()),
            };
        }
        bytes(text).map(Self::Bytes)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Max => f.write_str("max"),
            Self::Bytes(n) => {
                // A rounded figure would not parse back to the same value.
                let text = show_bytes(n);
                if bytes(&text) == Ok(n) { f.write_str(&text) } else { write!(f, "{n}") }
            }
            Self::Percent(hundredths) if hundredths % 100 == 0 => write!(f, "{}%", hundredths / 100),
            Self::Percent(hundredths) => {
                let digits = format!("{:02}", hundredths % 100);
                write!(f, "{}.{}%", hundredths / 100, digits.trim_end_matches('0'))
            }
        }
    }
}

/// A count of tasks or of operations per second, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// At most so many.
    Number(u64),
    /// `max`: no limit.
    Max,
}

impl FromStr for Count {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<u64>() {
            Ok(0) => Err("zero would let nothing start; give a number such as 64, or max".to_owned()),
            Ok(n) if text.bytes().all(|b| b.is_ascii_digit()) && i64::try_from(n).is_ok() => {
                Ok(Self::Number(n))
            }
            _ => Err("give a whole number such as 64, or max".to_owned()),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Max => f.write_str("max"),
        }
    }
}

/// A share under contention, 1 to 10000; what is not asked for is 100 (Documentation/admin-guide/cgroup-v2.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(pub u64);

impl FromStr for Weight {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<u64>() {
            Ok(n) if (1..=10_000).contains(&n) && text.bytes().all(|b| b.is_ascii_digit()) => Ok(Self(n)),
            _ => Err("give a number from 1 to 10000; 100 is what everybody has".to_owned()),
        }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A list of CPU or memory node numbers in the kernel's list format (cpuset(7)): sorted, joined ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List(pub Vec<(u32, u32)>);

/// Above any CPU or node number of a kernel; keeps a typing slip from asking for memory.
const LIST_MAX: u32 = 65_535;

impl FromStr for List {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "give numbers and ranges such as 0-1,3";
        let number = |part: &str| match part.parse::<u32>() {
            Ok(n) if n <= LIST_MAX && part.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
            _ => Err(EXAMPLE.to_owned()),
        };
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("{part} runs backwards; {EXAMPLE}"));
            }
            ranges.push((first, last));
        }
        crate::order::sort_by(&mut ranges, Ord::cmp);
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(previous) if first <= previous.1 + 1 => previous.1 = previous.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Ok(Self(joined))
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

/// A length of time, in humantime's spelling and always with a unit: `20ms`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "give a time with its unit, such as 20ms, 90s or 1h30m";
        // humantime reads `1M` as a month; who writes it for a limit means a minute.
        let too_long = |unit: &str| matches!(unit, "M" | "month" | "months" | "y" | "yr" | "year" | "years");
        if text.split(|c: char| !c.is_ascii_alphabetic()).any(too_long) {
            return Err(format!("months and years are no length of a run (a minute is m); {EXAMPLE}"));
        }
        match humantime::parse_duration(text) {
            Ok(span) if span.is_zero() && !text.bytes().any(|b| b.is_ascii_digit()) => {
                Err(EXAMPLE.to_owned())
            }
            Ok(span) => Ok(Self(span)),
            Err(_) => Err(EXAMPLE.to_owned()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // humantime prints months for long spans, which we do not read: days are the largest unit here.
        let (days, rest) = (self.0.as_secs() / 86_400, self.0.as_secs() % 86_400);
        let rest = Duration::new(rest, self.0.subsec_nanos());
        match (days, rest.is_zero()) {
            (0, _) => write!(f, "{}", humantime::format_duration(rest)),
            (_, true) => write!(f, "{days}days"),
            (_, false) => write!(f, "{days}days {}", humantime::format_duration(rest)),
        }
    }
}

/// An I/O rate for one place: `[WHERE:]RATE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoRule {
    /// A device node, `MAJ:MIN`, or any path; nothing means the working directory.
    pub place: Option<String>,
    /// Per second: bytes or operations. `None` is `max`.
    pub rate: Option<u64>,
}

impl IoRule {
    /// Splits at the last colon, so that `8:0:10M` is a device number and a rate.
    ///
    /// # Errors
    /// Says what is wrong with the rate or the place, with an example.
    pub fn parse(text: &str, rate: fn(&str) -> Result<Option<u64>, String>) -> Result<Self, String> {
        let (place, number) = match text.rsplit_once(':') {
            Some(("", _)) => return Err("nothing before the colon; give WHERE:RATE or only RATE".to_owned()),
            Some((place, number)) => (Some(place.to_owned()), number),
            None => (None, text),
        };
        Ok(Self { place, rate: rate(number)? })
    }
}

impl fmt::Display for IoRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}:")?;
        }
        match self.rate {
            Some(rate) => write!(f, "{rate}"),
            None => f.write_str("max"),
        }
    }
}

/// Bytes per second, or `max`.
///
/// # Errors
/// As [`bytes`]; zero would stop all I/O for ever and is refused.
pub fn byte_rate(text: &str) -> Result<Option<u64>, String> {
    match text {
        "max" => Ok(None),
        _ => match bytes(text)? {
            0 => Err("a rate of zero would stop all I/O for ever; give one such as 10M, or max".to_owned()),
            n => Ok(Some(n)),
        },
    }
}

/// Operations per second, or `max`.
///
/// # Errors
/// As [`Count`].
pub fn operation_rate(text: &str) -> Result<Option<u64>, String> {
    match text.parse::<Count>()? {
        Count::Number(n) => Ok(Some(n)),
        Count::Max => Ok(None),
    }
}
