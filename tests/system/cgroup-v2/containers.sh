#!/bin/bash
# Runs the containerd adapter's tests that depend on control groups under cgroup v2, on the kernel that run.sh boots.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# Not one package alone: with other features its dependencies would be built once more.
build() { cargo test --quiet --locked --workspace --no-run --message-format=json-render-diagnostics; }
binary=$(build | grep -o '"executable":"[^"]*/runtime-[^"]*"' | cut -d '"' -f 4) || true
[ -x "$binary" ] || { echo "the tests of agent-containerd could not be built" >&2; exit 1; }
# Not fifty_containers and containerds_end: they say nothing about control groups, and processes start slowly there.
tests/system/cgroup-v2/run.sh 1800 env CARGO_MANIFEST_DIR="$PWD/agent/containerd" "$binary" --test-threads=1 \
    containers:: devices:: hardening::a_ restarts::a_ --skip fifty
