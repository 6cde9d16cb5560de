#!/bin/bash
# Writes link.txt anew: the functions that runs go through, so that the linker lays them side by side (build.rs):
# first what the front does, then what limits and cages both need, then what limits add; and on pages of their own what
# cages add, and the rest.
# As root, on x86-64 with glibc; knows of musl what it finds where that target is installed. Worth doing when much has
# moved. A quarter of an hour.
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

# Crates' hashes (Cs..._), references back in a name (B..._), which count their letters, the numbers of copies, and the
# crate that a generic function's copy is for (at the end) are another build's matter.
functions() { # SECTIONS STEPS
    sed 's/$/ 1/' "$2" | sort -u - "$1" |
        awk '$2 == 0 { at = $3; next } at != "" && at != "-" && !seen[at]++ { print at }' |
        sed '/^_R/ { s/Cs[0-9A-Za-z]*_/Cs*_/g; s/B[0-9a-zA-Z]*_/B*_/g; s/\.[0-9]*$/*/; s/Cs\*_[0-9][0-9]*[a-z_]*$/Cs*_*/ }'
}

lld=$(rustc --print target-libdir)/../bin/gcc-ld
# Of functions that are equal the compiler keeps one, by names that depend on the build's directory. Several builds keep
# several, and whichever another one keeps is likely to be among them.
for build in gnu-1 gnu-2 gnu-3 gnu-4 musl-1; do
    libc=${build%-*}
    target=x86_64-unknown-linux-$libc
    [ -d "$(rustc --print target-libdir --target $target)" ] || continue
    # Beside the flags of .cargo/config.toml.
    cargo --config "target.$target.rustflags = ['-Cmetadata=$build']" rustc --release --target $target --target-dir "$work/target" --bin rcon -- \
        -C link-arg="-B$lld" -C link-arg=-fuse-ld=lld -C link-arg=-Wl,-Map="$work/map"
    rcon=$work/target/$target/release/rcon
    sections "$work/map" >"$work/sections.$build"
    # Stepped, we are slow: only who takes his time is waited for.
    steps $build.limits --cpu 30% --mem 256M --pids 64 -- sleep 1
    steps $build.limits --cpu 30% --mem 256M --pids 64 -- true
    steps $build.limits --mem 64M -- sh -c 'exit 3'
    steps $build.plain -- true
    steps $build.plain --timeout 1m -- true
    steps $build.plain capcon --allow net_bind_service -- true
    steps $build.plain capcon --allow none -- true
    steps $build.cage --unshare all --root / --proc -- true
    steps $build.cage --unshare all --root / --proc -- sleep 1
done
part() { # PART: every build's functions of it
    for sections in "$work"/sections.*; do
        functions "$sections" "$work/${sections##*/sections.}.$1"
    done | awk '!seen[$0]++' >"$work/$1"
}
set +f
for one in limits.front limits plain cage; do part $one; done
{
    # A stretch of 64 KiB more is a page fault more, in each process: what few need stands at the end.
    cat "$work/limits.front"
    grep -Fxf "$work/cage" "$work/limits"
    cat "$work/limits"
    # An empty line: from here on, a stretch of its own.
    echo
    cat "$work/cage" "$work/plain"
    # Those of a processor with other instructions than the one that was looked at.
    printf 'libc.a:%s\n' mem*-evex{,-unaligned-erms}.o mem*-avx2.o mem*-avx-unaligned-erms.o str*-{evex,avx2}.o
} | awk '!seen[$0]++' >link.txt
wc -l link.txt
