//! bash, with or without the bash-completion package.

use crate::model::{Kind, Program, Switch, capabilities};

pub(crate) fn script(rcon: &Program, capcon: &Program) -> String {
    let mut out = HEAD.replace("@capabilities@", &capabilities().join(" "));
    let words = |switches: &[Switch]| {
        switches.iter().map(|switch| format!("--{}", switch.long)).collect::<Vec<_>>().join(" ")
    };
    out.push_str("# The options of a program or subcommand.\n_rcon_options() {\n    case $1 in\n");
    let mut lists = vec![("rcon".to_owned(), &rcon.switches), ("capcon".to_owned(), &capcon.switches)];
    lists.extend(rcon.subs.iter().map(|sub| (format!("rcon.{}", sub.name), &sub.switches)));
    for (name, switches) in &lists {
        out.push_str(&format!("    {name}) REPLY='{}' ;;\n", words(switches)));
    }
    out.push_str("    *) REPLY= ;;\n    esac\n}\n\n");
    out.push_str("# What follows an option: nothing, or a kind of value.\n_rcon_kind() {\n    REPLY=\n    case $1:$2 in\n");
    for (name, switches) in &lists {
        for switch in switches.iter().filter(|switch| switch.kind != Kind::Flag) {
            let kind = if switch.optional {
                format!("={}", switch.kind.word())
            } else {
                switch.kind.word().to_owned()
            };
            let spelled: Vec<String> =
                switch.spellings().iter().map(|word| format!("{name}:{word}")).collect();
            out.push_str(&format!("    {}) REPLY={kind} ;;\n", spelled.join(" | ")));
        }
    }
    out.push_str("    esac\n}\n\n# The words of a subcommand: a kind of value.\n_rcon_words() {\n    REPLY=\n    case $1 in\n");
    for sub in &rcon.subs {
        if let Some(kind) = sub.words {
            out.push_str(&format!("    {}) REPLY={} ;;\n", sub.name, kind.word()));
        }
    }
    let names: Vec<&str> = rcon.subs.iter().map(|sub| sub.name.as_str()).collect();
    out.push_str("    esac\n}\n\n");
    out.push_str(&TAIL.replace("@subcommands@", &names.join(" ")));
    out
}

const HEAD: &str = r#"# bash completion of rcon and capcon. Made by `cargo xtask generate` from the table of options.
# Load it by: source <(rcon completions bash)

_rcon_capabilities='@capabilities@'

# Offers those lines of standard input that begin with $1. Names are never expanded: they are anybody's.
_rcon_lines() {
    local line
    while IFS= read -r line; do
        [[ $line == "$1"* && $line =~ ^[A-Za-z0-9_.@+:-]+$ ]] && COMPREPLY+=("$line")
    done
}

# Offers values of the kind $1 for the word $2.
_rcon_values() {
    local start= last=$2
    case $1 in
    capabilities)
        [[ $2 == *,* ]] && start=${2%,*}, last=${2##*,}
        COMPREPLY=($(compgen -P "$start" -W "$_rcon_capabilities" -- "$last"))
        ;;
    signals) _rcon_lines "${2#SIG}" < <(compgen -A signal SIG | sed 's/^SIG//') ;;
    runs) _rcon_lines "$2" < <(command rcon ls -q 2>/dev/null) ;;
    profiles) _rcon_lines "$2" < <(command rcon profile ls 2>/dev/null | cut -f 1) ;;
    directories) mapfile -t COMPREPLY < <(compgen -d -- "$2"); compopt -o filenames 2>/dev/null ;;
    files) mapfile -t COMPREPLY < <(compgen -f -- "$2"); compopt -o filenames 2>/dev/null ;;
    users) _rcon_lines "$2" < <(compgen -u) ;;
    groups) _rcon_lines "$2" < <(compgen -g) ;;
    processes) _rcon_lines "$2" < <(cd /proc && printf '%s\n' [0-9]*) ;;
    esac
}

# The wrapped command, which begins at word $1, with its own completions.
_rcon_command() {
    if declare -F _comp_command_offset >/dev/null; then
        _comp_command_offset "$1"
        return
    elif declare -F _command_offset >/dev/null; then
        _command_offset "$1"
        return
    fi
    local current=${COMP_WORDS[COMP_CWORD]} name=${COMP_WORDS[$1]##*/} spec
    if ((COMP_CWORD == $1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "$current")
        return
    fi
    spec=$(complete -p -- "$name" 2>/dev/null)
    if [[ $spec =~ \ -F\ ([^ ]+) ]]; then
        local function=${BASH_REMATCH[1]}
        COMP_WORDS=("${COMP_WORDS[@]:$1}")
        COMP_CWORD=$((COMP_CWORD - $1))
        COMP_LINE="${COMP_WORDS[*]}"
        COMP_POINT=${#COMP_LINE}
        "$function" "$name" "$current" "${COMP_WORDS[COMP_CWORD - 1]}"
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        compopt -o filenames 2>/dev/null
    fi
}

"#;

const TAIL: &str = r#"_rcon() {
    local program=${COMP_WORDS[0]##*/} at=1 words=0 sub= word current=${COMP_WORDS[COMP_CWORD]} REPLY
    local -r subcommands='@subcommands@'
    COMPREPLY=()
    if [[ $program != capcon ]] && ((COMP_CWORD > 1)) && [[ " $subcommands " == *" ${COMP_WORDS[1]} "* ]]; then
        sub=${COMP_WORDS[1]} at=2
        program=rcon.$sub
    fi
    while ((at < COMP_CWORD)); do
        word=${COMP_WORDS[at]}
        if [[ $word == -- ]]; then
            [[ -z $sub || $sub == exec ]] && _rcon_command $((at + 1))
            return
        elif [[ $word == -?* ]]; then
            _rcon_kind "$program" "$word"
            ((at++))
            # readline takes --option=value for three words.
            if [[ ${COMP_WORDS[at]} == = ]]; then
                if ((at + 1 >= COMP_CWORD)); then
                    [[ $current == = ]] && current=
                    _rcon_values "${REPLY#=}" "$current"
                    return
                fi
                ((at += 2))
            elif [[ -n $REPLY && $REPLY != =* ]]; then
                if ((at == COMP_CWORD)); then
                    _rcon_values "$REPLY" "$current"
                    return
                fi
                ((at++))
            fi
        elif [[ -z $sub ]] || [[ $sub == exec && $words -gt 0 ]]; then
            _rcon_command "$at"
            return
        else
            ((words++, at++))
        fi
    done
    if [[ $current == -* ]]; then
        _rcon_options "$program"
        COMPREPLY=($(compgen -W "$REPLY" -- "$current"))
    elif [[ -z $sub ]]; then
        _rcon_command "$COMP_CWORD"
        [[ $program == rcon ]] && ((COMP_CWORD == 1)) && COMPREPLY+=($(compgen -W "$subcommands" -- "$current"))
    elif [[ $sub == exec && $words -gt 0 ]]; then
        _rcon_command "$COMP_CWORD"
    elif [[ $sub == profile && $words -eq 0 ]]; then
        COMPREPLY=($(compgen -W 'ls show check' -- "$current"))
    elif [[ $sub == completions ]]; then
        COMPREPLY=($(compgen -W 'bash zsh fish' -- "$current"))
    else
        _rcon_words "$sub"
        _rcon_values "$REPLY" "$current"
    fi
}

complete -F _rcon rcon capcon
"#;
