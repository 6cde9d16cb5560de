//! Files that are made from the program's own table of options: completions and man pages. They are committed, so
//! that the binary can print them and packages can take them; this test fails when one is not current.
//!
//! `cargo xtask generate` (or `RCON_BLESS=1 cargo test --test generated`) writes them anew.

mod bash;
mod fish;
mod man;
mod model;
mod zsh;

use std::fs;
use std::path::Path;

fn files() -> Vec<(&'static str, String)> {
    let (rcon, capcon) = (model::Program::rcon(), model::Program::capcon());
    vec![
        ("completions/rcon.bash", bash::script(&rcon, &capcon)),
        ("completions/_rcon", zsh::script(&rcon, &capcon)),
        ("completions/rcon.fish", fish::script(&rcon)),
        ("completions/capcon.fish", fish::script(&capcon)),
        ("src/doc/rcon.1", man::page(false)),
        ("src/doc/capcon.1", man::page(true)),
        ("src/doc/rcon-profile.5", man::profile()),
    ]
}

#[test]
fn generated_files_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bless = std::env::var_os("RCON_BLESS").is_some();
    let mut stale = Vec::new();
    for (name, content) in files() {
        let path = root.join(name);
        if fs::read_to_string(&path).ok().as_deref() == Some(content.as_str()) {
            continue;
        }
        if bless {
            fs::write(&path, content).expect("write");
        } else {
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "not current: {}; run cargo xtask generate", stale.join(", "));
}
