# bash completion of rcon and capcon. Made by `cargo xtask generate` from the table of options.
# Load it by: source <(rcon completions bash)

_rcon_capabilities='chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore all none'

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

# The options of a program or subcommand.
_rcon_options() {
    case $1 in
    rcon) REPLY='--cpu-period --cpu --cpu-burst --cpu-weight --cpuset --mems --mem --mem-high --swap --pids --io-read --io-write --io-read-iops --io-write-iops --io-weight --timeout --timeout-boottime --cpu-time --signal --kill-after --preserve-status --timeout-status --oom-status --oom-fail --mem-grow --report --report-append --record --report-strict --wait-all --best-effort --explain --quiet --group --cgroup-parent --allow-escape --dev --on-wrapper-death --root --unshare --join --hostname --map-root --map-users --ephemeral --keep-changes --image-config --read-only --bind --ro-bind --rw --ro --tmpfs --overlay --upper --copy-files --private-tmp --proc --sys --mask --chdir --umask --rlimit --nice --ionice --sched --oom-score-adj --profile --name --env --env-file --unset --clear-env --hint-env --allow --drop --user --gid --groups --keep-env --no-new-privs --learn --help --version' ;;
    capcon) REPLY='--wait-all --best-effort --explain --quiet --on-wrapper-death --profile --allow --drop --user --gid --groups --keep-env --no-new-privs --learn --verify --bounding --permitted --effective --inheritable --ambient --securebits --show --pid --format --help --version' ;;
    rcon.ls) REPLY='--quiet --format --help' ;;
    rcon.top) REPLY='--interval --sort --help' ;;
    rcon.show) REPLY='--format --help' ;;
    rcon.set) REPLY='--cpu-period --cpu --cpu-burst --cpu-weight --cpuset --mems --mem --mem-high --swap --pids --io-read --io-write --io-read-iops --io-write-iops --io-weight --force --help' ;;
    rcon.attach) REPLY='--cpu-period --cpu --cpu-burst --cpu-weight --cpuset --mems --mem --mem-high --swap --pids --io-read --io-write --io-read-iops --io-write-iops --io-weight --best-effort --cgroup-parent --allow-escape --name --recursive --detach --help' ;;
    rcon.exec) REPLY='--without-seccomp --help' ;;
    rcon.freeze) REPLY='--help' ;;
    rcon.thaw) REPLY='--help' ;;
    rcon.kill) REPLY='--signal --help' ;;
    rcon.wait) REPLY='--timeout --help' ;;
    rcon.doctor) REPLY='--format --help' ;;
    rcon.profile) REPLY='--help' ;;
    rcon.completions) REPLY='--help' ;;
    rcon.man) REPLY='--help' ;;
    rcon.gc) REPLY='--kill --dry-run --help' ;;
    rcon.image) REPLY='--help' ;;
    rcon.plot) REPLY='--svg --html --width --help' ;;
    rcon.history) REPLY='--help' ;;
    rcon.report-schema) REPLY='--help' ;;
    *) REPLY= ;;
    esac
}

# What follows an option: nothing, or a kind of value.
_rcon_kind() {
    REPLY=
    case $1:$2 in
    rcon:--cpu-period) REPLY=text ;;
    rcon:--cpu) REPLY=text ;;
    rcon:--cpu-burst) REPLY=text ;;
    rcon:--cpu-weight) REPLY=text ;;
    rcon:--cpuset) REPLY=text ;;
    rcon:--mems) REPLY=text ;;
    rcon:--mem) REPLY=text ;;
    rcon:--mem-high) REPLY=text ;;
    rcon:--swap) REPLY=text ;;
    rcon:--pids) REPLY=text ;;
    rcon:--io-read) REPLY=text ;;
    rcon:--io-write) REPLY=text ;;
    rcon:--io-read-iops) REPLY=text ;;
    rcon:--io-write-iops) REPLY=text ;;
    rcon:--io-weight) REPLY=text ;;
    rcon:--timeout) REPLY=text ;;
    rcon:--timeout-boottime) REPLY=text ;;
    rcon:--cpu-time) REPLY=text ;;
    rcon:--signal) REPLY=signals ;;
    rcon:--kill-after) REPLY=text ;;
    rcon:--timeout-status) REPLY=text ;;
    rcon:--oom-status) REPLY=text ;;
    rcon:--mem-grow) REPLY=text ;;
    rcon:--report) REPLY==text ;;
    rcon:--report-append) REPLY=files ;;
    rcon:--record) REPLY=files ;;
    rcon:--explain) REPLY==text ;;
    rcon:--group) REPLY=runs ;;
    rcon:--cgroup-parent) REPLY=text ;;
    rcon:--dev) REPLY=text ;;
    rcon:--on-wrapper-death) REPLY=text ;;
    rcon:--root) REPLY=directories ;;
    rcon:--unshare) REPLY=text ;;
    rcon:--join) REPLY=text ;;
    rcon:--hostname) REPLY=text ;;
    rcon:--map-users) REPLY=text ;;
    rcon:--ephemeral) REPLY==directories ;;
    rcon:--keep-changes) REPLY=directories ;;
    rcon:--bind) REPLY=files ;;
    rcon:--ro-bind) REPLY=files ;;
    rcon:--rw) REPLY=files ;;
    rcon:--ro) REPLY=files ;;
    rcon:--tmpfs) REPLY=files ;;
    rcon:--overlay) REPLY=text ;;
    rcon:--upper) REPLY=directories ;;
    rcon:--copy-files) REPLY==text ;;
    rcon:--proc) REPLY==text ;;
    rcon:--sys) REPLY=text ;;
    rcon:--mask) REPLY=files ;;
    rcon:--chdir) REPLY=directories ;;
    rcon:--umask) REPLY=text ;;
    rcon:--rlimit) REPLY=text ;;
    rcon:--nice) REPLY=text ;;
    rcon:--ionice) REPLY=text ;;
    rcon:--sched) REPLY=text ;;
    rcon:--oom-score-adj) REPLY=text ;;
    rcon:--profile) REPLY=profiles ;;
    rcon:--name) REPLY=runs ;;
    rcon:--env) REPLY=text ;;
    rcon:--env-file) REPLY=files ;;
    rcon:--unset) REPLY=text ;;
    rcon:--allow) REPLY=capabilities ;;
    rcon:--drop) REPLY=capabilities ;;
    rcon:--user) REPLY=users ;;
    rcon:--gid) REPLY=groups ;;
    rcon:--groups) REPLY=groups ;;
    rcon:--no-new-privs) REPLY==text ;;
    capcon:--explain) REPLY==text ;;
    capcon:--on-wrapper-death) REPLY=text ;;
    capcon:--profile) REPLY=profiles ;;
    capcon:--allow) REPLY=capabilities ;;
    capcon:--drop) REPLY=capabilities ;;
    capcon:--user) REPLY=users ;;
    capcon:--gid) REPLY=groups ;;
    capcon:--groups) REPLY=groups ;;
    capcon:--no-new-privs) REPLY==text ;;
    capcon:--bounding) REPLY=capabilities ;;
    capcon:--permitted) REPLY=capabilities ;;
    capcon:--effective) REPLY=capabilities ;;
    capcon:--inheritable) REPLY=capabilities ;;
    capcon:--ambient) REPLY=capabilities ;;
    capcon:--securebits) REPLY=text ;;
    capcon:--pid) REPLY=processes ;;
    capcon:--format) REPLY=text ;;
    rcon.ls:--format) REPLY=text ;;
    rcon.top:--interval) REPLY=text ;;
    rcon.top:--sort) REPLY=text ;;
    rcon.show:--format) REPLY=text ;;
    rcon.set:--cpu-period) REPLY=text ;;
    rcon.set:--cpu) REPLY=text ;;
    rcon.set:--cpu-burst) REPLY=text ;;
    rcon.set:--cpu-weight) REPLY=text ;;
    rcon.set:--cpuset) REPLY=text ;;
    rcon.set:--mems) REPLY=text ;;
    rcon.set:--mem) REPLY=text ;;
    rcon.set:--mem-high) REPLY=text ;;
    rcon.set:--swap) REPLY=text ;;
    rcon.set:--pids) REPLY=text ;;
    rcon.set:--io-read) REPLY=text ;;
    rcon.set:--io-write) REPLY=text ;;
    rcon.set:--io-read-iops) REPLY=text ;;
    rcon.set:--io-write-iops) REPLY=text ;;
    rcon.set:--io-weight) REPLY=text ;;
    rcon.attach:--cpu-period) REPLY=text ;;
    rcon.attach:--cpu) REPLY=text ;;
    rcon.attach:--cpu-burst) REPLY=text ;;
    rcon.attach:--cpu-weight) REPLY=text ;;
    rcon.attach:--cpuset) REPLY=text ;;
    rcon.attach:--mems) REPLY=text ;;
    rcon.attach:--mem) REPLY=text ;;
    rcon.attach:--mem-high) REPLY=text ;;
    rcon.attach:--swap) REPLY=text ;;
    rcon.attach:--pids) REPLY=text ;;
    rcon.attach:--io-read) REPLY=text ;;
    rcon.attach:--io-write) REPLY=text ;;
    rcon.attach:--io-read-iops) REPLY=text ;;
    rcon.attach:--io-write-iops) REPLY=text ;;
    rcon.attach:--io-weight) REPLY=text ;;
    rcon.attach:--cgroup-parent) REPLY=text ;;
    rcon.attach:--name) REPLY=runs ;;
    rcon.kill:--signal | rcon.kill:-s) REPLY=signals ;;
    rcon.wait:--timeout) REPLY=text ;;
    rcon.doctor:--format) REPLY=text ;;
    rcon.plot:--width) REPLY=text ;;
    esac
}

# The words of a subcommand: a kind of value.
_rcon_words() {
    REPLY=
    case $1 in
    show) REPLY=runs ;;
    set) REPLY=runs ;;
    attach) REPLY=processes ;;
    exec) REPLY=runs ;;
    freeze) REPLY=runs ;;
    thaw) REPLY=runs ;;
    kill) REPLY=runs ;;
    wait) REPLY=runs ;;
    profile) REPLY=profiles ;;
    completions) REPLY=files ;;
    man) REPLY=files ;;
    plot) REPLY=files ;;
    history) REPLY=files ;;
    esac
}

_rcon() {
    local program=${COMP_WORDS[0]##*/} at=1 words=0 sub= word current=${COMP_WORDS[COMP_CWORD]} REPLY
    local -r subcommands='ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema'
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
