//! fish.

use crate::model::{Kind, Program, Switch, capabilities};

pub(crate) fn script(program: &Program) -> String {
    let name = program.name;
    let mut out = format!(
        "# fish completion of {name}. Made by `cargo xtask generate` from the table of options.\n# Load it by: rcon completions fish | source\n\n"
    );
    let wrap = program.with_values().join(" ");
    let names: Vec<&str> = program.subs.iter().map(|sub| sub.name.as_str()).collect();
    let no_sub = if names.is_empty() {
        String::new()
    } else {
        out.push_str("function __rcon_sub\n    set -l words (commandline -opc)\n    test (count $words) -gt 1; and contains -- $words[2] $argv\nend\n\n");
        format!(" -n 'not __rcon_sub {}'", names.join(" "))
    };
    out.push_str(WRAPPED);
    out.push_str(&format!("complete -c {name}{no_sub} -x -a '(__rcon_wrapped 1 {wrap})'\n"));
    for switch in &program.switches {
        out.push_str(&line(name, &no_sub, switch));
    }
    for sub in &program.subs {
        let is = format!(" -n '__rcon_sub {}'", sub.name);
        out.push_str(&format!(
            "\ncomplete -c {name} -n 'test (count (commandline -opc)) -eq 1' -a {} -d {}\n",
            sub.name,
            quoted(&sub.about)
        ));
        for switch in &sub.switches {
            out.push_str(&line(name, &is, switch));
        }
        let words = match (sub.name.as_str(), sub.words) {
            ("exec", _) => "(if test (count (commandline -opc)) -lt 3; rcon ls -q 2>/dev/null; else; __rcon_wrapped 3; end)".to_owned(),
            ("completions", _) => "bash zsh fish".to_owned(),
            ("profile", _) => format!("{} {}", sub.subs.join(" "), values(Kind::Profiles)),
            (_, Some(kind)) => values(kind),
            (_, None) => String::new(),
        };
        let files = if sub.words == Some(Kind::Files) && sub.name != "completions" { "" } else { " -f" };
        let words = if words.is_empty() { words } else { format!(" -a {}", quoted(&words)) };
        out.push_str(&format!("complete -c {name}{is}{files}{words}\n"));
    }
    out
}

const WRAPPED: &str = r#"# The wrapped command, with its own completions. It stands behind $argv[1] words and the options, of which the
# rest of $argv take a value.
function __rcon_wrapped
    set -l words (commandline -opc)
    set -e words[1..$argv[1]]
    set -l at 1
    while test $at -le (count $words)
        switch $words[$at]
            case --
                set at (math $at + 1)
                break
            case '-*'
                contains -- $words[$at] $argv[2..-1]; and set at (math $at + 1)
            case '*'
                break
        end
        set at (math $at + 1)
    end
    # The value of an option, or an option.
    test $at -gt (math (count $words) + 1); and return
    set -l current (commandline -ct)
    set -l command
    test $at -le (count $words); and set command (string escape -- $words[$at..-1])
    test -z "$command"; and string match -q -- '-*' "$current"; and return
    set -l line $command $current
    complete -C "$line"
end

"#;

fn line(name: &str, condition: &str, switch: &Switch) -> String {
    let short = switch.short.map(|short| format!(" -s {short}")).unwrap_or_default();
    let value = match switch.kind {
        Kind::Flag => String::new(),
        _ if switch.optional => String::new(),
        Kind::Files => " -r -F".to_owned(),
        Kind::Text => " -x".to_owned(),
        kind => format!(" -x -a {}", quoted(&values(kind))),
    };
    format!("complete -c {name}{condition}{short} -l {}{value} -d {}\n", switch.long, quoted(&switch.help))
}

fn values(kind: Kind) -> String {
    match kind {
        Kind::Capabilities => format!("(__fish_append , {})", capabilities().join(" ")),
        Kind::Signals => "(kill -l | string split ' ')".to_owned(),
        Kind::Runs => "(rcon ls -q 2>/dev/null)".to_owned(),
        Kind::Profiles => "(rcon profile ls 2>/dev/null | cut -f 1)".to_owned(),
        Kind::Directories => "(__fish_complete_directories)".to_owned(),
        Kind::Users => "(__fish_complete_users)".to_owned(),
        Kind::Groups => "(__fish_complete_groups)".to_owned(),
        Kind::Processes => "(__fish_complete_pids)".to_owned(),
        Kind::Flag | Kind::Files | Kind::Text => String::new(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
