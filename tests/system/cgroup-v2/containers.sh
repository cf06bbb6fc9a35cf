#!/bin/bash
# Runs the containerd adapter's tests that depend on control groups under cgroup v2, on the kernel that run.sh boots.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
build() { cargo test --locked -p agent-containerd --no-run --message-format=json 2>/dev/null; }
binary=$(build | grep -o '"executable":"[^"]*/runtime-[^"]*"' | cut -d '"' -f 4)
[ -x "$binary" ] || { echo "the tests of agent-containerd could not be built" >&2; exit 1; }
# Not fifty_containers and containerds_end: they say nothing about control groups, and processes start slowly there.
tests/system/cgroup-v2/run.sh 600 env CARGO_MANIFEST_DIR="$PWD/agent/containerd" "$binary" --test-threads=1 \
    containers:: devices:: hardening::a_ restarts::a_ --skip fifty
