#!/bin/bash
# Runs a command on a real kernel with cgroup v2 and all its controllers, whatever this machine has: boots Debian's
# User-mode Linux, which needs no virtualisation, on this very file system. Prints what the command printed and ends
# with its exit status.
#
# Usage: run.sh SECONDS COMMAND [ARGUMENT ...]
set -euo pipefail
limit=$1
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=$(mktemp -d "${CARGO_TARGET_DIR:-$here/../../../target}/cgroup-v2.XXXXXX")
dir=$(cd "$dir" && pwd)
trap 'rm -rf "$dir"' EXIT
printf '%q ' "$@" >"$dir/command"
# Its memory is a file that it maps to execute: on a file system that allows that and has the room.
place=/dev/shm
[ "$(stat -f -c %T $place 2>/dev/null)" = tmpfs ] && ! findmnt -no OPTIONS $place | grep -qw noexec &&
    [ "$(($(stat -f -c '%a * %S' $place) >> 20))" -ge 2048 ] || place=$dir
TMPDIR=$place timeout --kill-after=5 "$limit" linux.uml mem=2G root=/dev/root rootfstype=hostfs rootflags=/ rw quiet \
    init="$here/init.sh" wherry_run="$dir" con=null con0=null,fd:1 </dev/null >"$dir/console" 2>&1 || true
cat "$dir/output" || true
if [ ! -s "$dir/status" ]; then
    echo "the machine did not come to an end within $limit s; its console said:" >&2
    tail -n 20 "$dir/console" >&2
    exit 1
fi
exit "$(cat "$dir/status")"
