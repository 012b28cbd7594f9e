#!/usr/bin/env bash
# How the engine's settings change what it reaches, a line each beside its floor: bash benches/study.sh [DIR...]
# Each DIR may lie on another device or file system; the first is measured in every setting, the others in those
# that a device decides. Takes about ten minutes; nothing else should run.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --features cli
program=${CARGO_TARGET_DIR:-target}/release/thalweg
first=${1:-.}

# measure DIR WHAT FLAGS...
measure() {
    local dir=$1
    shift
    printf '%-64s' "$(df --output=fstype "$dir" | tail -n 1): $*"
    "$program" --dir "$dir" bench "$@" --rounds 4 2>/dev/null | grep -E '^│ (append|durable|group|replay|partitions)' | grep -v 'no syncs' | tr -d '│' | sed 's/  */ /g'
}

for bytes in 16KiB 64KiB 256KiB 1MiB 4MiB; do
    measure "$first" append --batch-bytes "$bytes"
    measure "$first" replay --total 512MiB --seconds 2 --batch-bytes "$bytes"
done
for pin in on off; do
    measure "$first" append --pin "$pin"
    measure "$first" append --partitions 8 --producers 2 --pin "$pin"
    measure "$first" durable --seconds 3 --pin "$pin"
done
for writers in 1 2 8; do
    measure "$first" append --partitions 8 --producers 2 --writers "$writers"
    measure "$first" append --acks synced --total 256MiB --seconds 3 --partitions 8 --producers 2 --writers "$writers"
done
for driver in std io_uring; do
    measure "$first" append --acks synced --total 256MiB --seconds 3 --partitions 8 --producers 2 --driver "$driver"
    measure "$first" group-commit --seconds 3 --driver "$driver"
    measure "$first" group-commit --partitions 8 --seconds 3 --driver "$driver"
done
for dir in "$@"; do
    measure "$dir" append
    measure "$dir" durable --seconds 3
    measure "$dir" group-commit --seconds 3
done
