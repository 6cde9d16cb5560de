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

/// Long texts and tables stand apart, and all that the C library reads where no run goes, so that what runs read is on
/// fewer pages.
const APART: &str = "  .rodata.apart :
  {
    *(.rodata._R*4rcon8commands4text*)
    *(.rodata._R*4core3num7dec2flt5table*)
    *(.rodata._R*9addr2line* .rodata._R*5gimli* .rodata._R*11miniz_oxide* .rodata._R*12unicode_data*)
    *libc.a:*(.rodata .rodata.*)
    *libgcc*.a:*(.rodata .rodata.*)
  }
";

/// The few bytes that every start writes, or reads where nothing is written, stand together on the page that the kernel
/// writes to in any case, where the file's data end.
const WRITTEN: &str = "  __libc_subfreeres : { KEEP(*(__libc_subfreeres)) }
  __libc_IO_vtables : { KEEP(*(__libc_IO_vtables)) }
  __libc_atexit : { KEEP(*(__libc_atexit)) }
  .data.together ALIGN(0x1000) :
  {
    *libc.a:single_threaded.o(.data)
    *libc.a:dl-support.o(.data)
  }
";

/// The same, of what is zero at first; and then the large piece of memory, which runs take from its beginning.
const MEMORY: &str = "  .bss.together (NOLOAD) :
  {
    *(.bss._R*4rcon8guardian* .bss._R*4rcon7systemd7IS_OPEN*)
    *(.bss._R*4rcon3sys5start[!4]* .bss._R*4rcon3sys5start4BACK*)
    *(.bss._R*3std3sys3env4unix8ENV_LOCK*)
    *libc.a:environ.o(.bss)
    *libc.a:dl-support.o(.bss)
    *(.bss._R*4rcon3sys5start4ROOM*)
    *(.bss._R*9allocator9ALLOCATOR)
  }
";

/// The same, of what is read-only once the C library has started as a whole, with the tables of its functions that follow.
const READ_ONLY_LATER: &str = "  .data.rel.ro :
  {
    *(EXCLUDE_FILE(*libc.a:dl-support.o) .data.rel.ro .data.rel.ro.*)
    . = ALIGN(0x1000);
    *libc.a:dl-support.o(.data.rel.ro .data.rel.ro.*)
  }
  .tdata : { *(.tdata .tdata.*) }
  .tbss : { *(.tbss .tbss.*) }
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
    let parts = [
        (constants(&functions), "BEFORE .rodata"),
        (format!("{LEAVE_OUT}{APART}"), "AFTER .rodata"),
        (side_by_side(&functions), "BEFORE .text"),
        (READ_ONLY_LATER.to_owned(), "AFTER .init_array"),
        (WRITTEN.to_owned(), "AFTER .data"),
        (MEMORY.to_owned(), "BEFORE .bss"),
    ];
    let text = parts.map(|(text, place)| format!("SECTIONS\n{{\n{text}}}\nINSERT {place};\n")).concat();
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
/// of 3 us with its end, and of 5 after a pause. A name that is not there, or no longer, does no harm.
fn side_by_side(functions: &str) -> String {
    let mut out = String::from(START);
    for line in functions.lines() {
        let written = match line {
            // What follows is not for all runs: it begins where the kernel begins to map.
            "" => writeln!(out, "    . = ALIGN(0x10000);"),
            // ARCHIVE:FILE, of the C library.
            line if line.contains(':') => writeln!(out, "    *{line}(.text .text.*)"),
            line => writeln!(out, "    *(.text.{line} .text.unlikely.{line})"),
        };
        written.expect("a string takes all");
    }
    out + "  }\n"
}

/// What these functions read and is named after them, beside the program's headers, which a start reads.
fn constants(functions: &str) -> String {
    let mut out = String::from("  .rodata.together :\n  {\n");
    for line in functions.lines().filter(|line| !line.is_empty()) {
        let written = match line.contains(':') {
            true => writeln!(out, "    *{line}(.rodata .rodata.*)"),
            false => writeln!(out, "    *(.rodata.{line} .rodata..Lswitch.table.{line}*)"),
        };
        written.expect("a string takes all");
    }
    out + "  }\n"
}
