//! zsh.

use crate::model::{Kind, Program, Switch, capabilities};

pub(crate) fn script(rcon: &Program, capcon: &Program) -> String {
    let mut out = HEAD.replace("@capabilities@", &capabilities().join(" "));
    for (name, switches) in [("rcon", &rcon.switches), ("capcon", &capcon.switches)] {
        out.push_str(&format!("_rcon_run_{name}() {{\n    _arguments -s -S \\\n"));
        out.extend(switches.iter().map(spec));
        out.push_str("        '(-)1:command: _command_names -e' \\\n        '*::arguments: _normal'\n}\n\n");
    }
    for sub in &rcon.subs {
        out.push_str(&format!("_rcon_sub_{}() {{\n    _arguments -s -S \\\n", sub.name.replace('-', "_")));
        out.extend(sub.switches.iter().map(spec));
        out.push_str(match (sub.name.as_str(), sub.words) {
            ("exec", _) => "        '1:run:_rcon_runs' \\\n        '(-)2:command: _command_names -e' \\\n        '*::arguments: _normal'\n",
            ("completions", _) => "        '1:shell:(bash zsh fish)'\n",
            ("profile", _) => "        '1:what:(ls show check)' \\\n        '*:profile:_rcon_profiles'\n",
            (_, Some(Kind::Runs)) => "        '*:run:_rcon_runs'\n",
            (_, Some(Kind::Processes)) => "        '*:process:_pids'\n",
            (_, Some(_)) => "        '*:file:_files'\n",
            (_, None) => "        ':: :'\n",
        });
        out.push_str("}\n\n");
    }
    let list = |sub: &crate::model::Sub| format!("        '{}:{}'\n", sub.name, escaped(&sub.about));
    out.push_str("_rcon() {\n    local -a subcommands\n    subcommands=(\n");
    out.extend(rcon.subs.iter().map(list));
    out.push_str(TAIL);
    out
}

fn spec(switch: &Switch) -> String {
    let value = match switch.kind {
        Kind::Flag => String::new(),
        kind => {
            let action = match kind {
                Kind::Capabilities => "_rcon_capabilities",
                Kind::Signals => "_signals -s",
                Kind::Runs => "_rcon_runs",
                Kind::Profiles => "_rcon_profiles",
                Kind::Directories => "_directories",
                Kind::Files => "_files",
                Kind::Users => "_users",
                Kind::Groups => "_groups",
                Kind::Processes => "_pids",
                Kind::Flag | Kind::Text => " ",
            };
            let colon = if switch.optional { "::" } else { ":" };
            format!("{colon}{}:{action}", escaped(&switch.value))
        }
    };
    let equals = match (switch.kind, switch.optional) {
        (Kind::Flag, _) => "",
        (_, true) => "=-",
        (_, false) => "=",
    };
    let help = escaped(&switch.help);
    let long = format!("        '*--{}{equals}[{help}]{value}' \\\n", switch.long);
    let short = switch.short.map(|short| {
        let plus = if switch.kind == Kind::Flag { "" } else { "+" };
        format!("        '*-{short}{plus}[{help}]{value}' \\\n")
    });
    long + &short.unwrap_or_default()
}

fn escaped(text: &str) -> String {
    text.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

const HEAD: &str = r#"#compdef rcon capcon
# zsh completion of rcon and capcon. Made by `cargo xtask generate` from the table of options.
# Put it in a directory of $fpath as _rcon, or: source <(rcon completions zsh)

_rcon_runs() {
    local -a names
    names=(${(f)"$(command rcon ls -q 2>/dev/null)"})
    compadd -a names
}

_rcon_profiles() {
    local -a names
    names=(${${(f)"$(command rcon profile ls 2>/dev/null)"}%%$'\t'*})
    compadd -a names
}

_rcon_capabilities() {
    _values -s , capability @capabilities@
}

"#;

const TAIL: &str = r#"    )
    if [[ ${words[1]:t} == capcon ]]; then
        _rcon_run_capcon
    elif ((CURRENT > 2)) && ((${+functions[_rcon_sub_${words[2]//-/_}]})); then
        local sub=${words[2]//-/_}
        shift words
        ((CURRENT--))
        _rcon_sub_$sub
    else
        ((CURRENT == 2)) && [[ ${words[2]} != -* ]] && _describe -t subcommands subcommand subcommands
        _rcon_run_rcon
    fi
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _rcon "$@"
else
    compdef _rcon rcon capcon
fi
"#;
