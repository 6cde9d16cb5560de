# fish completion of rcon. Made by `cargo xtask generate` from the table of options.
# Load it by: rcon completions fish | source

function __rcon_sub
    set -l words (commandline -opc)
    test (count $words) -gt 1; and contains -- $words[2] $argv
end

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

complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -x -a '(__rcon_wrapped 1 --cpu-period --cpu --cpu-burst --cpu-weight --cpuset --mems --mem --mem-high --swap --pids --io-read --io-write --io-read-iops --io-write-iops --io-weight --timeout --timeout-boottime --cpu-time --signal --kill-after --timeout-status --oom-status --mem-grow --report-append --record --group --cgroup-parent --dev --on-wrapper-death --root --unshare --join --hostname --map-users --keep-changes --bind --ro-bind --rw --ro --tmpfs --overlay --upper --sys --mask --chdir --umask --rlimit --nice --ionice --sched --oom-score-adj --profile --name --env --env-file --unset --allow --drop --user --gid --groups)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l cpu-period -x -d 'The period that --cpu is counted over (default 100ms; 1ms to 1s)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l cpu -x -d 'CPU time: 30% (of one CPU), 250%, 1.5cpus (default: no limit)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l cpu-burst -x -d 'Unused CPU time that may be saved up and spent at once (default 0)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l cpu-weight -x -d 'Share of the CPU when others want it too, 1 to 10000 (default 100)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l cpuset -x -d 'Which CPUs: 0-1,3 (default: the caller\'s)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l mems -x -d 'Which memory nodes: 0 (default: the caller\'s)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l mem -x -d 'Memory: 256M, 1.5G, 25% of what there is (default: no limit)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l mem-high -x -d 'Memory above which the command is slowed and reclaimed from (cgroup v2)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l swap -x -d 'Swap on top of --mem; 0 for none (default: no limit)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l pids -x -d 'Tasks (processes and threads) at once (default: no limit)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l io-read -x -d 'Bytes read per second, 10M or /data:10M; WHERE: device, MAJ:MIN or a path on the disk'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l io-write -x -d 'Bytes written per second'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l io-read-iops -x -d 'Read operations per second'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l io-write-iops -x -d 'Write operations per second'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l io-weight -x -d 'Share of the disk when others want it too, 1 to 10000 (default 100)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l timeout -x -d 'End it after this time, such as 90s or 10m: status 124 (default: no limit)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l timeout-boottime -x -d 'The same, and time in which the machine is suspended counts'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l cpu-time -x -d 'End it when all its processes together have used so much CPU time: status 124'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l signal -x -a '(kill -l | string split \' \')' -d 'What a time limit sends first (default TERM)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l kill-after -x -d 'Kill what then is left, after this time (default 10s; 0s: at once)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l preserve-status -d 'The command\'s own status also when a time limit ended it'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l timeout-status -x -d 'This status, not 124, when a time limit ended it'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l oom-status -x -d 'This status, not 137, when it was killed for want of memory'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l oom-fail -d 'Fail when any of its processes was killed for want of memory, even if it reports success'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l mem-grow -x -d 'Double --mem whenever it is not enough, up to this size, and say so'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l report -d 'Tell at the end what it used and how it ended; =json, =json:FILE, =json:fd=N for programs'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l report-append -r -F -d 'Add the report to a file as one line of JSON (rcon history reads it)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l record -r -F -d 'Look at it every second, or TIME, and write that down at the end (rcon plot draws it)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l report-strict -d 'Status 125 when a report cannot be written (default: a message)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l wait-all -d 'Wait for all its processes, rather than end them when the command ends'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l best-effort -d 'Warn about limits that cannot be applied, rather than refuse to start'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l explain -d 'Print what would be done on this machine, and do nothing; =json for programs'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -s q -l quiet -d 'No message about out-of-memory kills'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l group -x -a '(rcon ls -q 2>/dev/null)' -d 'Share one group, and so one budget, with other runs of this name'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l cgroup-parent -x -d 'Make the group below this one (a path as in /proc/PID/cgroup), not below the caller\'s'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l allow-escape -d 'Allow a place that the limits which the caller is under do not reach'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l dev -x -d 'With the word minimal: a /dev of null, zero, random, tty, pts, shm... (else: see the man page)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l on-wrapper-death -x -d 'When rcon itself is killed: kill the command (default), or keep it within its limits'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l root -x -a '(__fish_complete_directories)' -d 'Make DIR the command\'s root directory; it sees nothing else'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l unshare -x -d 'New namespaces: mount,pid,net,ipc,uts,user,cgroup,time or all'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l join -x -d 'Enter an existing namespace: net=/run/netns/blue, pid=1234'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l hostname -x -d 'A host name of its own'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l map-root -d 'User namespace in which the caller is root'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l map-users -x -d 'Map a range of users (and groups) into the user namespace'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l ephemeral -d 'With --root: throw every write away afterwards; it lies in memory, or below DIR'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l keep-changes -x -a '(__fish_complete_directories)' -d 'With --ephemeral: keep the changes in DIR, an upper layer (DIR.work is used too)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l image-config -d 'With --root: command, variables, user, directory as the image unpacked there has them'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l read-only -d 'The root is read-only, but for the mounts below'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l bind -r -F -d 'Show a file or directory of the host in the cage'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l ro-bind -r -F -d 'The same, read-only with all mounts below it'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l rw -r -F -d 'The same path as on the host, writable as there'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l ro -r -F -d 'The same path as on the host, read-only; / is --read-only'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l tmpfs -r -F -d 'An empty directory in memory, gone afterwards'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l overlay -x -d 'Directories over each other, topmost first; see --upper'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l upper -x -a '(__fish_complete_directories)' -d 'Where writes to the --overlay before it go (DIR.work is used too)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l copy-files -d 'Show resolv.conf, hosts, passwd, group (or a list) of the host, read-only; =write copies'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l private-tmp -d 'Own /tmp and /var/tmp, gone afterwards'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l proc -d '/proc; =full: without the guard that --root puts on it'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l sys -x -d '/sys, read-only'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l mask -r -F -d 'Hide a file or directory'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l chdir -x -a '(__fish_complete_directories)' -d 'Working directory (inside the root, if there is one)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l umask -x -d 'File mode creation mask, octal'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l rlimit -x -d 'Resource limit of each process: nofile=1024:4096, core=unlimited'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l nice -x -d 'Nice value, -20 (first in line) to 19'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l ionice -x -d 'I/O priority: idle, best-effort:0-7, realtime:0-7'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l sched -x -d 'Scheduling policy: other, batch, idle, fifo:1-99, rr:1-99, deadline:RUNTIME:DEADLINE'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l oom-score-adj -x -d 'Out-of-memory killer: -1000 never takes it, 1000 takes it first'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l profile -x -a '(rcon profile ls 2>/dev/null | cut -f 1)' -d 'Start from the options in NAME.toml (rcon profile ls); those on the line win'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l name -x -a '(rcon ls -q 2>/dev/null)' -d 'Call the run so for ls, set, kill; no two at a time (NAME%n numbers them)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l env -x -d 'Set a variable for the command'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l env-file -r -F -d 'Set the variables that a file holds: NAME=VALUE lines'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l unset -x -d 'Remove a variable'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l clear-env -d 'Start from an empty environment (later --env add to it)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l hint-env -d 'Tell runtimes of CPUs and memory: GOMAXPROCS, JAVA_TOOL_OPTIONS and others, where they are not set'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l allow -x -a '(__fish_append , chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore all none)' -d 'These capabilities and no other; \'none\', \'all\''
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l drop -x -a '(__fish_append , chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore all none)' -d 'All capabilities that the caller has but these'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l user -x -a '(__fish_complete_users)' -d 'Run as this user, with its groups; names or numbers'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l gid -x -a '(__fish_complete_groups)' -d 'Run as this group (with capcon also --group)'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l groups -x -a '(__fish_complete_groups)' -d 'Exactly these supplementary groups; \'none\''
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l keep-env -d 'Leave HOME, USER, LOGNAME and SHELL to the caller\'s'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l no-new-privs -d 'No program gains privileges by exec [capcon: yes, rcon: no]'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -l learn -d 'Watch which capabilities it needs, and say the shortest --allow'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -s h -l help -d 'Print help'
complete -c rcon -n 'not __rcon_sub ls top show set attach exec freeze thaw kill wait doctor profile completions man gc image plot history report-schema' -s V -l version -d 'Print the version'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a ls -d 'List all runs that can be seen from here'
complete -c rcon -n '__rcon_sub ls' -s q -l quiet -d 'Names only'
complete -c rcon -n '__rcon_sub ls' -l format -x -d 'json, or a template such as \'{name}\\t{mem}\' (fields: name pid command age cpu mem mem-limit pids pids-limit state path)'
complete -c rcon -n '__rcon_sub ls' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub ls' -f

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a top -d 'Watch runs live, sorted by what they use'
complete -c rcon -n '__rcon_sub top' -l interval -x -d 'Between two looks (default 2s, at least 100ms)'
complete -c rcon -n '__rcon_sub top' -l sort -x -d 'Sort by this at the start (default cpu)'
complete -c rcon -n '__rcon_sub top' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub top' -f

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a show -d 'Show a run: limits asked and in force, use, pressure, processes'
complete -c rcon -n '__rcon_sub show' -l format -x -d 'json for programs'
complete -c rcon -n '__rcon_sub show' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub show' -f -a '(rcon ls -q 2>/dev/null)'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a set -d 'Change the limits of a run that lives'
complete -c rcon -n '__rcon_sub set' -l cpu-period -x -d 'The period that --cpu is counted over (default 100ms; 1ms to 1s)'
complete -c rcon -n '__rcon_sub set' -l cpu -x -d 'CPU time: 30% (of one CPU), 250%, 1.5cpus (default: no limit)'
complete -c rcon -n '__rcon_sub set' -l cpu-burst -x -d 'Unused CPU time that may be saved up and spent at once (default 0)'
complete -c rcon -n '__rcon_sub set' -l cpu-weight -x -d 'Share of the CPU when others want it too, 1 to 10000 (default 100)'
complete -c rcon -n '__rcon_sub set' -l cpuset -x -d 'Which CPUs: 0-1,3 (default: the caller\'s)'
complete -c rcon -n '__rcon_sub set' -l mems -x -d 'Which memory nodes: 0 (default: the caller\'s)'
complete -c rcon -n '__rcon_sub set' -l mem -x -d 'Memory: 256M, 1.5G, 25% of what there is (default: no limit)'
complete -c rcon -n '__rcon_sub set' -l mem-high -x -d 'Memory above which the command is slowed and reclaimed from (cgroup v2)'
complete -c rcon -n '__rcon_sub set' -l swap -x -d 'Swap on top of --mem; 0 for none (default: no limit)'
complete -c rcon -n '__rcon_sub set' -l pids -x -d 'Tasks (processes and threads) at once (default: no limit)'
complete -c rcon -n '__rcon_sub set' -l io-read -x -d 'Bytes read per second, 10M or /data:10M; WHERE: device, MAJ:MIN or a path on the disk'
complete -c rcon -n '__rcon_sub set' -l io-write -x -d 'Bytes written per second'
complete -c rcon -n '__rcon_sub set' -l io-read-iops -x -d 'Read operations per second'
complete -c rcon -n '__rcon_sub set' -l io-write-iops -x -d 'Write operations per second'
complete -c rcon -n '__rcon_sub set' -l io-weight -x -d 'Share of the disk when others want it too, 1 to 10000 (default 100)'
complete -c rcon -n '__rcon_sub set' -l force -d 'Lower --mem below what is in use although the kernel may kill for it (cgroup v2)'
complete -c rcon -n '__rcon_sub set' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub set' -f -a '(rcon ls -q 2>/dev/null)'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a attach -d 'Put running processes under limits: in a new group, or in that of a run (--name)'
complete -c rcon -n '__rcon_sub attach' -l cpu-period -x -d 'The period that --cpu is counted over (default 100ms; 1ms to 1s)'
complete -c rcon -n '__rcon_sub attach' -l cpu -x -d 'CPU time: 30% (of one CPU), 250%, 1.5cpus (default: no limit)'
complete -c rcon -n '__rcon_sub attach' -l cpu-burst -x -d 'Unused CPU time that may be saved up and spent at once (default 0)'
complete -c rcon -n '__rcon_sub attach' -l cpu-weight -x -d 'Share of the CPU when others want it too, 1 to 10000 (default 100)'
complete -c rcon -n '__rcon_sub attach' -l cpuset -x -d 'Which CPUs: 0-1,3 (default: the caller\'s)'
complete -c rcon -n '__rcon_sub attach' -l mems -x -d 'Which memory nodes: 0 (default: the caller\'s)'
complete -c rcon -n '__rcon_sub attach' -l mem -x -d 'Memory: 256M, 1.5G, 25% of what there is (default: no limit)'
complete -c rcon -n '__rcon_sub attach' -l mem-high -x -d 'Memory above which the command is slowed and reclaimed from (cgroup v2)'
complete -c rcon -n '__rcon_sub attach' -l swap -x -d 'Swap on top of --mem; 0 for none (default: no limit)'
complete -c rcon -n '__rcon_sub attach' -l pids -x -d 'Tasks (processes and threads) at once (default: no limit)'
complete -c rcon -n '__rcon_sub attach' -l io-read -x -d 'Bytes read per second, 10M or /data:10M; WHERE: device, MAJ:MIN or a path on the disk'
complete -c rcon -n '__rcon_sub attach' -l io-write -x -d 'Bytes written per second'
complete -c rcon -n '__rcon_sub attach' -l io-read-iops -x -d 'Read operations per second'
complete -c rcon -n '__rcon_sub attach' -l io-write-iops -x -d 'Write operations per second'
complete -c rcon -n '__rcon_sub attach' -l io-weight -x -d 'Share of the disk when others want it too, 1 to 10000 (default 100)'
complete -c rcon -n '__rcon_sub attach' -l best-effort -d 'Warn about limits that cannot be applied, rather than refuse to start'
complete -c rcon -n '__rcon_sub attach' -l cgroup-parent -x -d 'Make the group below this one (a path as in /proc/PID/cgroup), not below the caller\'s'
complete -c rcon -n '__rcon_sub attach' -l allow-escape -d 'Allow a place that the limits which the caller is under do not reach'
complete -c rcon -n '__rcon_sub attach' -l name -x -a '(rcon ls -q 2>/dev/null)' -d 'Call the run so for ls, set, kill; no two at a time (NAME%n numbers them)'
complete -c rcon -n '__rcon_sub attach' -l recursive -d 'All their descendants too'
complete -c rcon -n '__rcon_sub attach' -l detach -d 'Put them back where they were before'
complete -c rcon -n '__rcon_sub attach' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub attach' -f -a '(__fish_complete_pids)'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a exec -d 'Start a command inside a run: in its groups and namespaces, with its capabilities'
complete -c rcon -n '__rcon_sub exec' -l without-seccomp -d 'Go on where the run has a seccomp filter, which no other process can be given'
complete -c rcon -n '__rcon_sub exec' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub exec' -f -a '(if test (count (commandline -opc)) -lt 3; rcon ls -q 2>/dev/null; else; __rcon_wrapped 3; end)'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a freeze -d 'Stop all processes of runs where they are'
complete -c rcon -n '__rcon_sub freeze' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub freeze' -f -a '(rcon ls -q 2>/dev/null)'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a thaw -d 'Let frozen runs go on'
complete -c rcon -n '__rcon_sub thaw' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub thaw' -f -a '(rcon ls -q 2>/dev/null)'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a kill -d 'End runs: SIGKILL, or another signal, to all processes of each'
complete -c rcon -n '__rcon_sub kill' -s s -l signal -x -a '(kill -l | string split \' \')' -d 'Send this one (a name such as TERM, or a number) and do not wait for the end'
complete -c rcon -n '__rcon_sub kill' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub kill' -f -a '(rcon ls -q 2>/dev/null)'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a wait -d 'Wait until runs have ended'
complete -c rcon -n '__rcon_sub wait' -l timeout -x -d 'At most so long; then the status is 124'
complete -c rcon -n '__rcon_sub wait' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub wait' -f -a '(rcon ls -q 2>/dev/null)'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a doctor -d 'Tell what works on this machine, and how to mend what does not'
complete -c rcon -n '__rcon_sub doctor' -l format -x -d 'json for programs'
complete -c rcon -n '__rcon_sub doctor' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub doctor' -f

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a profile -d 'List, show and check profiles (rcon --profile NAME, rcon-profile(5))'
complete -c rcon -n '__rcon_sub profile' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub profile' -f -a 'ls show check (rcon profile ls 2>/dev/null | cut -f 1)'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a completions -d 'Print the completion script of a shell'
complete -c rcon -n '__rcon_sub completions' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub completions' -f -a 'bash zsh fish'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a man -d 'Print a manual page, for man -l -'
complete -c rcon -n '__rcon_sub man' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub man'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a gc -d 'Remove groups and tracing instances that dead wrappers left'
complete -c rcon -n '__rcon_sub gc' -l kill -d 'Kill processes that run on in such groups; without it these are only listed'
complete -c rcon -n '__rcon_sub gc' -l dry-run -d 'Only list what would be removed'
complete -c rcon -n '__rcon_sub gc' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub gc' -f

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a image -d 'Make a root directory of an image, or an archive of a directory'
complete -c rcon -n '__rcon_sub image' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub image' -f

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a plot -d 'Draw what --record wrote: CPU, memory, tasks and I/O over time, with the limits'
complete -c rcon -n '__rcon_sub plot' -l svg -d 'A picture on standard output'
complete -c rcon -n '__rcon_sub plot' -l html -d 'A page with that picture on standard output'
complete -c rcon -n '__rcon_sub plot' -l width -x -d 'Columns (default: the terminal\'s, else 80)'
complete -c rcon -n '__rcon_sub plot' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub plot'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a history -d 'Show what runs have used, from files of --report-append, and advise limits'
complete -c rcon -n '__rcon_sub history' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub history'

complete -c rcon -n 'test (count (commandline -opc)) -eq 1' -a report-schema -d 'Print the JSON Schema of --report=json'
complete -c rcon -n '__rcon_sub report-schema' -s h -l help -d 'Print help'
complete -c rcon -n '__rcon_sub report-schema' -f
