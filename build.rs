//! How the release binary is linked: what only the linker can leave out, and only of a program, not of tests.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=link.ld");
    let has =
        |name: &str, word: &str| env::var(name).is_ok_and(|value| value.split(',').any(|one| one == word));
    if !has("PROFILE", "release")
        || !has("CARGO_CFG_TARGET_OS", "linux")
        || !has("CARGO_CFG_TARGET_FEATURE", "crt-static")
    {
        return;
    }
    let mut arguments =
        vec![format!("-Wl,-T,{}/link.ld", env::var("CARGO_MANIFEST_DIR").unwrap_or_default())];
    if has("CARGO_CFG_TARGET_ENV", "gnu") {
        // At a fixed address: 4,000 relocations at every start, which write 17 pages, and their table of 100 KB are
        // not needed. Stack, heap and mappings are at random addresses as before. (musl's own start-up code, which
        // Rust brings along, is linked for the other way.)
        arguments.extend(["-static".to_owned(), "-no-pie".to_owned()]);
    }
    for argument in arguments {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
