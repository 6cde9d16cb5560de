#!/bin/bash
# Writes link.txt anew: the functions that runs go through, so that the linker lays them side by side (build.rs):
# first what the front does, then what the keeper adds, then what cages need, then capcon.
# As root, on x86-64 with glibc; knows of musl what it finds where that target is installed. Worth doing when much has
# moved.
set -euf
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -O2 -o "$work/steps" benches/steps.c

steps() { # FILE ARGUMENT...: the front's go to FILE.front, those of all its processes to FILE
    "$work/steps" "$rcon" "${@:2}" >"$work/steps.out" || :
    sed -n 's/^0 //p' "$work/steps.out" >>"$work/$1.front"
    cut -c3- "$work/steps.out" >>"$work/$1"
}

# From lld's map: ADDRESS 0 FUNCTION, or ADDRESS 0 ARCHIVE:FILE for C, whose functions have no section of their own.
sections() {
    awk '/:\(\.text[^)]*\)$/ && $3 != "0" {
            file = section = $0
            sub(/.*:\(\.text\.?(unlikely\.)?/, "", section); sub(/\)$/, "", section); sub(/:\([^(]*$/, "", file)
            name = section ~ /^_[ZR]/ ? section : "-"
            if (match(file, /lib(c|m|gcc)[^\/]*\.a\(/)) {
                name = substr(file, RSTART); sub(/\(/, ":", name); sub(/\)/, "", name); sub(/-[0-9.]*\.a/, "*.a", name)
            }
            printf "%16s 0 %s\n", $1, name
        }' "$1" | sed ':zero; s/^\( *\) \([0-9a-f]\)/\10\2/; t zero'
}

# Crates' hashes (Cs..._), references back in a name (B..._), which count their letters, and the numbers of copies are
# another build's matter.
functions() { # SECTIONS STEPS
    sed 's/$/ 1/' "$2" | sort -u - "$1" |
        awk '$2 == 0 { at = $3; next } at != "" && at != "-" && !seen[at]++ { print at }' |
        sed '/^_R/ { s/Cs[0-9A-Za-z]*_/Cs*_/g; s/B[0-9a-zA-Z]*_/B*_/g; s/\.[0-9]*$/*/ }'
}

lld=$(rustc --print target-libdir)/../bin/gcc-ld
for libc in gnu musl; do
    target=x86_64-unknown-linux-$libc
    [ -d "$(rustc --print target-libdir --target $target)" ] || continue
    cargo rustc --release --target $target --bin rcon -- -C link-arg="-B$lld" -C link-arg=-fuse-ld=lld -C link-arg=-Wl,-Map="$work/map"
    rcon=target/$target/release/rcon
    sections "$work/map" >"$work/sections.$libc"
    # Stepped, we are slow: only who takes his time is waited for.
    steps $libc.plain --cpu 30% --mem 256M --pids 64 -- sleep 1
    steps $libc.plain --cpu 30% --mem 256M --pids 64 -- true
    steps $libc.plain --mem 64M -- sh -c 'exit 3'
    steps $libc.plain -- true
    steps $libc.plain --timeout 1m -- true
    steps $libc.capcon capcon --allow net_bind_service -- true
    steps $libc.capcon capcon --allow none -- true
    steps $libc.cage --unshare all --root / --proc -- true
    steps $libc.cage --unshare all --root / --proc -- sleep 1
done
part() { # PART: both C libraries' functions of it
    for libc in gnu musl; do
        [ -e "$work/$libc.$1" ] && functions "$work/sections.$libc" "$work/$libc.$1"
    done | awk '!seen[$0]++' >"$work/$1"
}
for one in plain.front plain capcon cage; do part $one; done
{
    # A stretch of 64 KiB more is a page fault more, in each process: what few need stands at the end.
    cat "$work/plain.front" "$work/plain" "$work/cage" "$work/capcon"
    # Those of a processor with other instructions than the one that was looked at.
    printf 'libc.a:%s\n' mem*-evex{,-unaligned-erms}.o mem*-avx2.o mem*-avx-unaligned-erms.o str*-{evex,avx2}.o
} | awk '!seen[$0]++' >link.txt
wc -l link.txt
