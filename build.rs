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
    *(.rodata._R*4rcon8commands4text*)
    *(.rodata._R*4core3num7dec2flt5table*)
    *libc.a:C-ctype.o(.rodata .rodata.*)
    *libc.a:fpioconst.o(.rodata .rodata.*)
  }
";

/// The few bytes that every start writes stand together, from the end of the large piece of memory on.
const MEMORY: &str = "  .bss.together ALIGN(0x1000) (NOLOAD) :
  {
    *(.bss._R*9allocator9ALLOCATOR)
    *(.bss._R*4rcon8guardian*)
    *(.bss._R*4rcon3sys5start[!4]*)
    *(.bss._R*3std3sys3env4unix8ENV_LOCK*)
    *libc.a:environ.o(.bss)
    *(.bss._R*4rcon3sys5start4ROOM*)
    *libc.a:pthread_keys.o(.bss)
  }
";

/// As in src/sys/start.rs.
const NEED_WHOLE: [&str; 7] =
    ["malloc", "calloc", "realloc", "memalign", "aligned_alloc", "posix_memalign", "abort"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=link.txt");
    println!("cargo::rustc-check-cfg=cfg(light_start)");
    let has =
        |name: &str, word: &str| env::var(name).is_ok_and(|value| value.split(',').any(|one| one == word));
    // musl is linked statically where nothing else is said, and cargo does not say that it is.
    let musl = has("CARGO_CFG_TARGET_ENV", "musl");
    let is_static = has("CARGO_CFG_TARGET_FEATURE", "crt-static") || musl;
    // Of a program that can be at any address the C library's start makes a runnable one first.
    let fixed =
        env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("relocation-model=static"));
    if has("CARGO_CFG_TARGET_ARCH", "x86_64") && has("CARGO_CFG_TARGET_ENV", "gnu") && is_static && fixed {
        println!("cargo::rustc-cfg=light_start");
        println!("cargo::rustc-link-arg-bins=-Wl,-e,rcon_start");
        for function in NEED_WHOLE {
            println!("cargo::rustc-link-arg-bins=-Wl,--wrap={function}");
        }
    }
    if !has("PROFILE", "release") || !has("CARGO_CFG_TARGET_OS", "linux") || !is_static {
        return;
    }
    let script = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("link.ld");
    let functions = fs::read_to_string("link.txt").expect("link.txt");
    let text = format!(
        "SECTIONS\n{{\n{LEAVE_OUT}{}{APART}}}\nINSERT AFTER .rodata;\nSECTIONS\n{{\n{}}}\nINSERT BEFORE .text;\nSECTIONS\n{{\n{MEMORY}}}\nINSERT AFTER .bss;\n",
        constants(&functions),
        side_by_side(&functions)
    );
    fs::write(&script, text).expect("OUT_DIR can be written");
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
}

/// What runs go through before all that: where the kernel enters, and the jumps to the C library's functions that
/// are chosen by processor. Aligned as the kernel maps.
const START: &str = "  .init ALIGN(0x10000) : { KEEP(*(SORT_NONE(.init))) }
  .iplt : { *(.iplt) }
  .text.together :
  {
    *crt1.o(.text .text.*) *crtbegin*.o(.text .text.*) *(.text.main) *(.text.rcon_start) *(.text.rcon_memory)
";

/// What runs go through (link.txt; benches/hot.sh writes it) stands together, and not all over two megabytes:
/// the kernel maps a program's file by 64 KB where it is touched, and each time is a page fault, in front and keeper,
/// of 7 us with its end. A name that is not there, or no longer, does no harm.
fn side_by_side(functions: &str) -> String {
    let mut out = String::from(START);
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

/// What the C library's part of these functions reads.
fn constants(functions: &str) -> String {
    let mut out = String::from("  .rodata.together :\n  {\n");
    for file in functions.lines().filter(|line| line.contains(':')) {
        writeln!(out, "    *{file}(.rodata .rodata.*)").expect("a string takes all");
    }
    out + "  }\n"
}
