//! What each guest reported.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed(String),
    /// Failed with this message, then passed again and again (`--again`).
    Unsteady(String),
    Skipped(String),
}

#[derive(Clone, Debug)]
pub(crate) struct CaseResult {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
}

/// A guest's run.
#[derive(Debug)]
pub(crate) struct GuestResult {
    pub(crate) guest: &'static str,
    pub(crate) cases: Vec<CaseResult>,
    /// The case that was running when the reports stopped.
    pub(crate) running: Option<String>,
    /// Why the guest itself failed, with its last output.
    pub(crate) trouble: Option<String>,
    pub(crate) took: Duration,
}

impl GuestResult {
    pub(crate) fn new(guest: &'static str) -> Self {
        Self { guest, cases: Vec::new(), running: None, trouble: None, took: Duration::ZERO }
    }

    /// Do its cases say that they took longer, one after the other, than the whole guest was there?
    pub(crate) fn clock_ran_away(&self) -> bool {
        let told: Duration = self.cases.iter().map(|case| case.took).sum();
        told > self.took * 3 / 2 + Duration::from_secs(2)
    }

    /// Takes a line of the report (tests/kernel/report.rs).
    ///
    /// # Errors
    /// The line, if it is none.
    pub(crate) fn report(&mut self, line: &str) -> Result<(), String> {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let millis = |text: &str| text.parse().map(Duration::from_millis).map_err(|_| line.to_owned());
        let (name, verdict, took) = match fields[..] {
            ["begin", name] => {
                self.running = Some(name.to_owned());
                return Ok(());
            }
            ["pass", name, took] => (name, Verdict::Passed, millis(took)?),
            ["fail", name, took, message] => (name, Verdict::Failed(message.to_owned()), millis(took)?),
            ["unsteady", name, took, message] => (name, Verdict::Unsteady(message.to_owned()), millis(took)?),
            ["skip", name, reason] => (name, Verdict::Skipped(reason.to_owned()), Duration::ZERO),
            _ => return Err(line.to_owned()),
        };
        self.running = None;
        self.cases.push(CaseResult { name: name.to_owned(), verdict, took });
        Ok(())
    }

    /// The guest is gone: a case that was running then has failed.
    pub(crate) fn close(&mut self) {
        if let Some(name) = self.running.take() {
            let why = self.trouble.clone().unwrap_or_else(|| "the tests ended during this case".to_owned());
            self.cases.push(CaseResult { name, verdict: Verdict::Failed(why), took: Duration::ZERO });
        }
    }

    pub(crate) fn verdict(&self, name: &str) -> Option<&Verdict> {
        self.cases.iter().find(|case| case.name == name).map(|case| &case.verdict)
    }

    /// (guest, case, how it failed) of those that failed once.
    pub(crate) fn unsteady(&self) -> impl Iterator<Item = (&'static str, &str, &str)> {
        self.cases.iter().filter_map(|case| match &case.verdict {
            Verdict::Unsteady(why) => Some((self.guest, case.name.as_str(), why.as_str())),
            _ => None,
        })
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for case in &self.cases {
            match case.verdict {
                Verdict::Passed | Verdict::Unsteady(_) => counts.passed += 1,
                Verdict::Failed(_) => counts.failed += 1,
                Verdict::Skipped(_) => counts.skipped += 1,
            }
        }
        counts
    }

    pub(crate) fn failed(&self) -> bool {
        self.trouble.is_some() || self.counts().failed > 0
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            (_, true) => match letters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(other) => text.push(other),
                None => text.push('\\'),
            },
            (letter, false) => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_and_what_ran_last_has_failed() {
        let mut result = GuestResult::new("test");
        for line in ["begin\ta", "pass\ta\t12", "begin\tb", "fail\tb\t3\ttwo\\nlines\\\\", "begin\tc"] {
            result.report(line).expect(line);
        }
        assert!(result.report("pass\tc\tsoon").is_err());
        assert!(result.report("what").is_err());
        result.close();
        assert_eq!(result.counts(), Counts { passed: 1, failed: 2, skipped: 0 });
        assert_eq!(result.verdict("b"), Some(&Verdict::Failed("two\nlines\\".to_owned())));
        assert!(matches!(result.verdict("c"), Some(Verdict::Failed(_))));
    }

    #[test]
    fn who_failed_once_has_passed_and_is_told() {
        let mut result = GuestResult::new("test");
        for line in ["begin\ta", "unsteady\ta\t12\ttoo late", "begin\tb", "fail\tb\t3\tnever"] {
            result.report(line).expect(line);
        }
        assert_eq!(result.counts(), Counts { passed: 1, failed: 1, skipped: 0 });
        assert_eq!(result.unsteady().collect::<Vec<_>>(), [("test", "a", "too late")]);
    }

    #[test]
    fn a_clock_that_runs_away_is_noticed() {
        let mut result = GuestResult::new("test");
        result.took = Duration::from_secs(30);
        for line in ["pass\ta\t9000", "fail\tb\t20000\ttoo late"] {
            result.report(line).expect(line);
        }
        assert!(!result.clock_ran_away());
        result.report("pass\tc\t60000").expect("a line");
        assert!(result.clock_ran_away());
    }
}
