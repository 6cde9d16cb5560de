//! `cargo xtask dependencies`: what we link must be free to pass on, and be there once.

use crate::{Result, shell::capture};
use serde_json::Value;
use std::{collections::BTreeMap, env, process::Command};

/// Licences that let anybody use and pass on the binary; all ask for their notice to be kept.
const ALLOWED: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unlicense",
    "Unicode-3.0",
    "BSL-1.0",
    "0BSD",
];

/// (crate, why two versions of it are there)
const DUPLICATES: &[(&str, &str)] = &[
    ("bitflags", "nix 0.25, which cgroups-rs holds on to, is from before bitflags 2"),
    ("nix", "cgroups-rs 0.5 holds on to 0.25; ours is current"),
    ("syn", "derive macros are moving from 2 to 3; build time only"),
];

pub(crate) fn main() -> Result<bool> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform=x86_64-unknown-linux-gnu",
    ]);
    let metadata: Value = serde_json::from_str(&capture(&mut command)?).map_err(|error| error.to_string())?;
    // Only what the resolver chose for the platform: the list of packages has every platform's.
    let chosen: Vec<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| node["id"].as_str())
        .collect();
    let mut findings = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let field = |key: &str| package[key].as_str().unwrap_or_default();
        if !chosen.contains(&field("id")) {
            continue;
        }
        versions.entry(field("name")).or_default().push(field("version"));
        if !allowed(field("license")) {
            let (name, licence) = (field("name"), field("license"));
            findings.push(format!("{name}: licence {licence:?} is not in the list of those that we pass on"));
        }
    }
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        match DUPLICATES.iter().find(|(known, _)| known == name) {
            Some((_, why)) => println!("{name} {}: allowed: {why}", versions.join(" and ")),
            None => {
                findings.push(format!("{name} is there {} times: {}", versions.len(), versions.join(", ")))
            }
        }
    }
    for (name, _) in DUPLICATES {
        if versions.get(name).is_none_or(|versions| versions.len() < 2) {
            findings.push(format!("{name} is no duplicate any more: take it off the list"));
        }
    }
    println!("{} crates looked at", versions.len());
    findings.iter().for_each(|finding| println!("FAILED: {finding}"));
    Ok(findings.is_empty())
}

/// An SPDX expression: one side of an OR is enough, all of an AND are needed. Old crates write `/` for OR.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace(['(', ')'], "").replace('/', " OR ");
    !expression.trim().is_empty()
        && expression.split(" AND ").all(|part| part.split(" OR ").any(|name| ALLOWED.contains(&name.trim())))
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions_are_read() {
        assert!(allowed("MIT OR Apache-2.0") && allowed("MIT/Apache-2.0") && allowed("MIT OR GPL-3.0-only"));
        assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!allowed("MIT AND GPL-3.0-only") && !allowed("GPL-2.0-only") && !allowed(""));
    }
}
