#!/bin/bash
# Writes link.txt anew: the functions that plain runs go through, so that the linker lays them side by side (build.rs):
# first what the front does, then what the keeper adds, then what only cages need.
# Needs valgrind, and a release build to look at; worth doing when much has moved.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_PROFILE_RELEASE_STRIP=false
cargo rustc --release --bin rcon -- -C link-arg=-Wl,-Map="$work/map"
rcon=$(cargo build --release --bin rcon --message-format json -- 2>/dev/null | sed -n 's/.*"executable":"\([^"]*\/rcon\)".*/\1/p')
trace() { # DIRECTORY ARGUMENT...: the front's calls go to DIRECTORY.front, those of all its processes to DIRECTORY
    mkdir -p "$work/$1" "$work/$1.front"
    valgrind --tool=callgrind --demangle=no --callgrind-out-file="$work/$1/%p" "$rcon" "${@:2}" >"$work/said" 2>&1 &
    wait $! || :
    cp "$work/$1/$!" "$work/$1.front/"
}
trace plain --cpu 30% --mem 256M --pids 64 -- true
trace plain --mem 64M -- sh -c 'exit 3'
trace plain -- true
trace plain --timeout 1m -- true
trace capcon capcon --allow net_bind_service -- true
trace cage --unshare all --root / --proc -- true
section() { # DIRECTORY: what the functions called there are to the linker
    cat "$work/$1"/* | sed -n "s/^c\?fn=([0-9]*) //p" | sed "s/'[0-9]*$//" | sort -u >"$work/functions"
    # Rust: a name without its hash, which tells the instances of a generic function apart: it stays where there are
    # several (and where it is another one with the next compiler, nothing is lost but a page).
    # C: a function has no section of its own, its file's is taken.
    awk 'NR == FNR { if (match($0, /:\(\.text\._ZN.*17h/)) count[substr($0, RSTART + 8, RLENGTH - 8)]++; next }
        /^_ZN.*17h[0-9a-f]+E$/ { plain = substr($0, 1, length($0) - 17); print (count[plain] > 1 ? $0 : plain "*") }' \
        "$work/map" "$work/functions"
    sed -n '/^_R/s/Cs[0-9A-Za-z]*_/Cs*_/gp' "$work/functions"
    awk 'NR == FNR { wanted[$1]; next }
        /\.a\([^)]*\):\(/ { n = split($0, part, "/"); split(part[n], piece, /[()]/); file = piece[1] ":" piece[2]; next }
        NF == 5 && ($5 in wanted) && file ~ /^lib(c|m|gcc)/ { print file }' "$work/functions" "$work/map"
}
{
    section plain.front
    # Those of a processor with other instructions than the one that was looked at, and what valgrind hides (the vDSO).
    printf 'libc*.a:%s\n' 'mem*-evex*.o' 'mem*-avx*.o' 'str*-evex*.o' 'str*-avx*.o' dl-object.o dl-setup_hash.o
    section plain
    section capcon
    section cage
} | awk '!seen[$0]++' >link.txt
wc -l link.txt
