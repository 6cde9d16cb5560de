//! What the benchmarks share: the floor, and where it makes its groups.

use std::path::{Path, PathBuf};
use std::process::Command;

/// (name, path) of the floor for each C library that can be linked statically here.
pub(crate) fn build_floors() -> Vec<(&'static str, PathBuf)> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor.c");
    let mut floors = Vec::new();
    for (name, compiler) in [("floor", "cc"), ("floor (musl)", "musl-gcc")] {
        let path = out.join(name.replace([' ', '(', ')'], ""));
        if build(name, compiler, &source, &path) {
            floors.push((name, path));
        }
    }
    floors
}

/// Is there such a program: built here, or brought along to a machine without a compiler?
fn build(name: &str, compiler: &str, source: &Path, program: &Path) -> bool {
    let built = Command::new(compiler).args(["-O2", "-static", "-o"]).arg(program).arg(source).status();
    let there = built.map_or_else(|_| program.exists(), |status| status.success());
    if !there {
        eprintln!("{name}: left out, because {compiler} does not build it here");
    }
    there
}

/// A root directory with nothing in it but a /proc to mount on and `/true`, which does nothing and needs no library.
pub(crate) fn small_root() -> Option<String> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (root, source) = (out.join("root"), out.join("true.c"));
    std::fs::create_dir_all(root.join("proc")).ok()?;
    std::fs::write(&source, "int main(void) { return 0; }\n").ok()?;
    build("a root of its own", "cc", &source, &root.join("true")).then(|| root.display().to_string())
}

/// A copy, as what is installed is one: of what a linker has just written, the page cache holds single pages, which cost
/// each run some per cent. The program itself where no copy can be made (in a guest).
pub(crate) fn installed(program: &Path) -> PathBuf {
    let libc = if program.to_string_lossy().contains("musl") { "musl" } else { "libc" };
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("installed").join(libc);
    let copy = || {
        let copy = dir.join(program.file_name()?);
        std::fs::create_dir_all(&dir).ok()?;
        // Not over what is there: the file would keep its pages. The first time there is none.
        std::fs::remove_file(&copy).ok();
        std::fs::copy(program, &copy).ok()?;
        Some(copy)
    };
    copy().unwrap_or_else(|| program.to_owned())
}

/// The floor's arguments for the groups that rcon itself would make here.
pub(crate) fn floor_groups(rcon: &str) -> Option<Vec<String>> {
    let output = Command::new(rcon)
        .args(["--cpu", "30%", "--mem", "256M", "--pids", "64", "--explain=json", "--", "true"])
        .output()
        .ok()?;
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let groups = plan.get("groups")?.as_array()?;
    if !output.status.success() || groups.is_empty() {
        return None;
    }
    let mut words = vec!["v1".to_owned()];
    for group in groups {
        let parent = Path::new(group.get("path")?.as_str()?).parent()?.display().to_string();
        if group.get("version")?.as_str()? == "v2" {
            return (groups.len() == 1).then(|| vec!["v2".to_owned(), parent]);
        }
        words.push(format!("{}={parent}", group.get("controllers")?.get(0)?.as_str()?));
    }
    Some(words)
}

pub(crate) fn find(program: &str) -> Option<String> {
    let path = std::env::var("PATH").ok()?;
    path.split(':').map(|dir| format!("{dir}/{program}")).find(|path| Path::new(path).exists())
}

/// The value that `percent` of the values do not exceed.
pub(crate) fn at(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * percent / 100).or(sorted.last()).copied().unwrap_or(f64::NAN)
}
