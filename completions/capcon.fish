# fish completion of capcon. Made by `cargo xtask generate` from the table of options.
# Load it by: rcon completions fish | source

# The wrapped command, with its own completions. It stands behind $argv[1] words and the options, of which the
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

complete -c capcon -x -a '(__rcon_wrapped 1 --on-wrapper-death --profile --allow --drop --user --gid --groups --bounding --permitted --effective --inheritable --ambient --securebits --pid --format)'
complete -c capcon -l wait-all -d 'Wait for all its processes, rather than end them when the command ends'
complete -c capcon -l best-effort -d 'Warn about limits that cannot be applied, rather than refuse to start'
complete -c capcon -l explain -d 'Print what would be done on this machine, and do nothing; =json for programs'
complete -c capcon -s q -l quiet -d 'No message about out-of-memory kills'
complete -c capcon -l on-wrapper-death -x -d 'When rcon itself is killed: kill the command (default), or keep it within its limits'
complete -c capcon -l profile -x -a '(rcon profile ls 2>/dev/null | cut -f 1)' -d 'Start from the options in NAME.toml (rcon profile ls); those on the line win'
complete -c capcon -l allow -x -a '(__fish_append , chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore all none)' -d 'These capabilities and no other; \'none\', \'all\''
complete -c capcon -l drop -x -a '(__fish_append , chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore all none)' -d 'All capabilities that the caller has but these'
complete -c capcon -l user -x -a '(__fish_complete_users)' -d 'Run as this user, with its groups; names or numbers'
complete -c capcon -l gid -x -a '(__fish_complete_groups)' -d 'Run as this group (with capcon also --group)'
complete -c capcon -l groups -x -a '(__fish_complete_groups)' -d 'Exactly these supplementary groups; \'none\''
complete -c capcon -l keep-env -d 'Leave HOME, USER, LOGNAME and SHELL to the caller\'s'
complete -c capcon -l no-new-privs -d 'No program gains privileges by exec [capcon: yes, rcon: no]'
complete -c capcon -l learn -d 'Watch which capabilities it needs, and say the shortest --allow'
complete -c capcon -l verify -d 'With --learn: run it again with these alone, and compare'
complete -c capcon -l bounding -x -a '(__fish_append , chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore all none)' -d 'Set the bounding set: the most that any exec can give'
complete -c capcon -l permitted -x -a '(__fish_append , chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore all none)' -d 'Set the permitted set: what may become effective'
complete -c capcon -l effective -x -a '(__fish_append , chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore all none)' -d 'Set the effective set: what the kernel asks for'
complete -c capcon -l inheritable -x -a '(__fish_append , chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore all none)' -d 'Set the inheritable set: kept over exec where the file agrees'
complete -c capcon -l ambient -x -a '(__fish_append , chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore all none)' -d 'Set the ambient set: kept over exec by ordinary users'
complete -c capcon -l securebits -x -d 'noroot, no-setuid-fixup, keep-caps, no-cap-ambient-raise, ...-locked'
complete -c capcon -l show -d 'Print the capability sets of the caller, or of --pid, and stop'
complete -c capcon -l pid -x -a '(__fish_complete_pids)' -d 'With --show: of this process'
complete -c capcon -l format -x -d 'With --show: for people, or for programs'
complete -c capcon -s h -l help -d 'Print help'
complete -c capcon -s V -l version -d 'Print the version'
