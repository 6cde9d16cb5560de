//! How the release binary is linked: what only the linker can leave out or put in order, and only of a program, not
//! of tests.

use std::fmt::Write;
use std::{env, fs, path::Path};

/// Added to the linker's own script.
///
/// The tables that tell how to unwind a stack: a panic aborts (Cargo.toml), so nobody reads these 360 KB. What the C
/// start-up files bring is kept, because they refer to it.
const LEAVE_OUT: &str = "  /DISCARD/ :
  {
    *(EXCLUDE_FILE(*crtbegin*.o *crtend*.o) .eh_frame)
    *(.eh_frame_hdr)
    *(.gcc_except_table .gcc_except_table.*)
  }
";

/// Long texts and tables stand apart, so that what runs read is on fewer pages.
const APART: &str = "  .rodata.apart :
  {
    *(.rodata._ZN4rcon8commands4text*)
    *libc.a:C-ctype.o(.rodata .rodata.*)
    *libc.a:fpioconst.o(.rodata .rodata.*)
  }
";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=link.txt");
    let has =
        |name: &str, word: &str| env::var(name).is_ok_and(|value| value.split(',').any(|one| one == word));
    // musl is linked statically where nothing else is said, and cargo does not say that it is.
    let is_static = has("CARGO_CFG_TARGET_FEATURE", "crt-static") || has("CARGO_CFG_TARGET_ENV", "musl");
    if !has("PROFILE", "release") || !has("CARGO_CFG_TARGET_OS", "linux") || !is_static {
        return;
    }
    let script = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("link.ld");
    let functions = fs::read_to_string("link.txt").expect("link.txt");
    let text = format!(
        "SECTIONS\n{{\n{LEAVE_OUT}{APART}}}\nINSERT AFTER .rodata;\nSECTIONS\n{{\n{}}}\nINSERT BEFORE .text;\n",
        side_by_side(&functions)
    );
    fs::write(&script, text).expect("OUT_DIR can be written");
    let mut arguments = vec![format!("-Wl,-T,{}", script.display())];
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

/// What plain runs go through (link.txt; benches/hot.sh writes it) stands together, and not all over two megabytes:
/// the kernel maps a program's file by 64 KB where it is touched, and each time is a page fault, in front and keeper.
/// A name that is not there, or no longer, does no harm.
fn side_by_side(functions: &str) -> String {
    // Where the kernel enters, first.
    let mut out =
        String::from("  .text.together :\n  {\n    *crt1.o(.text) *crtbegin*.o(.text) *(.text.main)\n");
    for line in functions.lines() {
        let written = match line.contains(':') {
            // ARCHIVE:FILE, of the C library.
            true => writeln!(out, "    *{line}(.text .text.*)"),
            false => writeln!(out, "    *(.text.{line} .text.unlikely.{line})"),
        };
        written.expect("a string takes all");
    }
    out + "  }\n"
}
