//! `cargo xtask deb`: a Debian package of the release binary, made by dpkg-deb alone: a static binary and a few files
//! need no tool that would have to be built first.

use crate::{Result, shell::which};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// Builds it; prints where it is. With `--try`, installs it in a Debian that has never seen it, and looks.
pub(crate) fn main(args: &clap::ArgMatches) -> Result<bool> {
    let package = build()?;
    if args.get_flag("try") { trial(&package) } else { Ok(true) }
}

fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--locked", "--package", "rcon"]).current_dir(&root);
    run(&mut build)?;
    let release = newest(&root)?;
    let version = env!("CARGO_PKG_VERSION");
    let arch = said(Command::new("dpkg").arg("--print-architecture"))?;
    let stage = tempfile::tempdir().map_err(|error| format!("temporary directory: {error}"))?;
    let tree = stage.path().join("rcon");
    let files: [(&Path, &str, u32); 6] = [
        (&release, "usr/bin/rcon", 0o755),
        (&root.join("completions/rcon.bash"), "usr/share/bash-completion/completions/rcon", 0o644),
        (&root.join("completions/_rcon"), "usr/share/zsh/vendor-completions/_rcon", 0o644),
        (&root.join("completions/rcon.fish"), "usr/share/fish/vendor_completions.d/rcon.fish", 0o644),
        (&root.join("completions/capcon.fish"), "usr/share/fish/vendor_completions.d/capcon.fish", 0o644),
        (&root.join("README.md"), "usr/share/doc/rcon/README.md", 0o644),
    ];
    for (from, to, mode) in files {
        put(&tree.join(to), &fs::read(from).map_err(|error| format!("{}: {error}", from.display()))?, mode)?;
    }
    let control = format!(
        "Package: rcon\nVersion: {version}\nArchitecture: {arch}\nSection: admin\nPriority: optional\n\
         Maintainer: the rcon developers <rcon@localhost>\nRecommends: man-db\n\
         Description: run any command line with a budget, a cage and a receipt\n \
         One static binary that limits CPU, memory, tasks and I/O of a command and all its\n children, \
         on cgroup v1, v2 and hybrid machines; capcon gives it only the capabilities it needs.\n"
    );
    put(&tree.join("DEBIAN/control"), control.as_bytes(), 0o644)?;
    for (page, section) in [("rcon.1", 1), ("capcon.1", 1), ("rcon-profile.5", 5)] {
        let to = tree.join(format!("usr/share/man/man{section}/{page}"));
        let text = fs::read(root.join("src/doc").join(page)).map_err(|error| format!("{page}: {error}"))?;
        put(&to, &text, 0o644)?;
        run(Command::new("gzip").arg("-9n").arg(&to))?;
    }
    let link =
        |to: &str, from: &str| symlink(to, tree.join(from)).map_err(|error| format!("{from}: {error}"));
    link("rcon", "usr/bin/capcon")?;
    link("rcon", "usr/share/bash-completion/completions/capcon")?;
    fs::create_dir_all(root.join("target/debian")).map_err(|error| format!("target/debian: {error}"))?;
    let package = root.join(format!("target/debian/rcon_{version}_{arch}.deb"));
    run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&package))?;
    Ok(package)
}

/// What must hold where it has been installed, by a shell that says which line failed.
const CHECKS: &str = r#"
set -eu
export LC_ALL=C.UTF-8 MANPAGER=cat MANWIDTH=80
dpkg -i /rcon.deb
dpkg -V rcon
[ "$(rcon -- echo hello)" = hello ]
[ "$(readlink /usr/bin/capcon)" = rcon ]
capcon --help | grep -q capabilities
for page in rcon capcon rcon-profile; do
    man --warnings "$page" >/tmp/page 2>/tmp/complaints
    [ -s /tmp/page ] && [ ! -s /tmp/complaints ] || { cat /tmp/complaints; echo "man $page"; exit 1; }
    zcat "$(man -w "$page")" | groff -ww -man -Tutf8 2>/tmp/complaints >/dev/null
    [ ! -s /tmp/complaints ] || { cat /tmp/complaints; echo "groff $page"; exit 1; }
done
man rcon | grep -q -e --timeout
bash -c '. /usr/share/bash-completion/bash_completion; _load_comp rcon 2>/dev/null || _completion_loader rcon; complete -p rcon' | grep -q rcon
bash -c '. /usr/share/bash-completion/bash_completion; _load_comp capcon 2>/dev/null || _completion_loader capcon; complete -p capcon' | grep -q capcon
[ -s /usr/share/zsh/vendor-completions/_rcon ]
[ -s /usr/share/fish/vendor_completions.d/rcon.fish ]
[ -s /usr/share/fish/vendor_completions.d/capcon.fish ]
dpkg -r rcon
for file in /usr/bin/rcon /usr/bin/capcon /usr/share/man/man1/rcon.1.gz /usr/share/doc/rcon; do
    [ ! -e "$file" ] || { echo "$file is left"; exit 1; }
done
"#;

/// Installs it in a root directory of its own, which goes with us.
fn trial(package: &Path) -> Result<bool> {
    let missing = ["mmdebstrap", "chroot"].into_iter().find(|tool| which(tool).is_none());
    if let (Some(tool), _) | (None, Some(tool)) =
        (missing, (!nix::unistd::geteuid().is_root()).then_some("the right to change the root directory"))
    {
        println!("SKIPPED, because this machine lacks {tool}: installing {}", package.display());
        return Ok(true);
    }
    let place = tempfile::tempdir().map_err(|error| format!("temporary directory: {error}"))?;
    let root = place.path().join("debian");
    let suite = said(Command::new("sh").args(["-c", ". /etc/os-release; echo $VERSION_CODENAME"]))?;
    let bootstrap = ["--quiet", "--variant=minbase", "--include=man-db,bash-completion", &suite];
    run(Command::new("mmdebstrap").args(bootstrap).arg(&root))?;
    fs::copy(package, root.join("rcon.deb")).map_err(|error| format!("{}: {error}", package.display()))?;
    // In a mount namespace with its own /proc: nothing that the packages' scripts do stays.
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"]);
    inside.arg("mount -t proc proc \"$0/proc\"; exec chroot \"$0\" sh -xc \"$1\"").arg(&root).arg(CHECKS);
    run(&mut inside)?;
    println!("{}: installs, works and goes in a clean {suite}", package.display());
    Ok(true)
}

/// The release binary, wherever the target directory has it.
fn newest(root: &Path) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let dirs = fs::read_dir(&target).map_err(|error| format!("{}: {error}", target.display()))?;
    let candidates = dirs.flatten().map(|entry| entry.path().join("release/rcon"));
    let made = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    candidates.filter(|path| path.is_file()).max_by_key(made).ok_or_else(|| "no release binary".to_owned())
}

fn put(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
    fs::write(path, content).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}

fn run(command: &mut Command) -> Result<()> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

fn said(command: &mut Command) -> Result<String> {
    let out = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}
