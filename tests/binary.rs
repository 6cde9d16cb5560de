//! The program as a file, and the source as text: what holds of every build.

use std::fs;
use std::path::{Path, PathBuf};

fn u16_at(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes")).into()
}

fn u64_at(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize
}

/// elf(5), 64 bits, little end first: the types of the program headers, and the tags of the dynamic section.
fn headers(elf: &[u8]) -> (Vec<u32>, Vec<usize>) {
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "not a 64-bit little-endian ELF file");
    let (start, size, count) = (u64_at(elf, 32), u16_at(elf, 54), u16_at(elf, 56));
    let mut types = Vec::new();
    let mut tags = Vec::new();
    for at in (0..count).map(|i| start + i * size) {
        let kind = u32::from_le_bytes(elf[at..at + 4].try_into().expect("four bytes"));
        types.push(kind);
        if kind == 2 {
            let (offset, length) = (u64_at(elf, at + 8), u64_at(elf, at + 32));
            tags.extend((offset..offset + length).step_by(16).map(|at| u64_at(elf, at)));
        }
    }
    (types, tags)
}

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const DT_NEEDED: usize = 1;

/// A system without a C library, or with an older one, runs it.
#[test]
#[cfg(all(target_endian = "little", target_pointer_width = "64"))]
fn the_binary_is_static() {
    is_static(&fs::read(env!("CARGO_BIN_EXE_rcon")).expect("the binary"));
    // The test would see it: the shell that every system has is linked dynamically, or statically like ours.
    let (types, tags) = headers(&fs::read("/bin/sh").expect("/bin/sh"));
    assert_eq!(types.contains(&PT_INTERP), tags.contains(&DT_NEEDED));
}

fn is_static(elf: &[u8]) {
    let (types, tags) = headers(elf);
    assert!(types.contains(&PT_LOAD), "{types:?}");
    assert!(!types.contains(&PT_INTERP), "it asks for a dynamic loader");
    assert!(!tags.contains(&DT_NEEDED), "it needs shared libraries");
}

/// What is installed: small enough to be copied anywhere, and linked as the one above although by other means.
#[test]
#[ignore = "needs the release binary of these sources: cargo build --release"]
#[cfg(all(target_endian = "little", target_pointer_width = "64"))]
fn the_release_binary_is_static_and_within_its_budget() {
    const BUDGET: usize = 5 * 1024 * 1024 / 2;
    let built = Path::new(env!("CARGO_BIN_EXE_rcon")).parent().expect("a directory");
    let path = built.with_file_name("release").join("rcon");
    let elf = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    is_static(&elf);
    assert!(elf.len() <= BUDGET, "{} bytes of {BUDGET}", elf.len());
    println!("{} bytes of {BUDGET}", elf.len());
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory of sources") {
        let path = entry.expect("entry").path();
        match path.is_dir() {
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

/// Whoever looks for what could break memory looks in one directory.
#[test]
fn unsafe_code_is_in_one_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 20, "{found:?}");
    let mut in_sys = 0;
    for path in found.iter().filter(|path| path.extension().is_some_and(|end| end == "rs")) {
        let text = fs::read_to_string(path).expect("UTF-8");
        let name = path.strip_prefix(&root).expect("below").display().to_string();
        let words = |word: &str| text.lines().filter(|line| code(line).contains(word)).count();
        match name.as_str() {
            // The symbol that the C start-up code calls, and the hand-over of what it gave us.
            "main.rs" => assert_eq!((words("unsafe {"), words("allow(unsafe_code)")), (1, 1)),
            "lib.rs" => assert_eq!((words("unsafe {"), words("allow(unsafe_code)")), (0, 1)),
            _ if name.starts_with("sys/") => in_sys += words("unsafe "),
            _ => assert_eq!((words("unsafe "), words("unsafe_code")), (0, 0), "{name}"),
        }
    }
    assert!(in_sys > 10, "the search finds nothing");
}

/// The line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}
