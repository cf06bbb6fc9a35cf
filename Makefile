# The commands of the project. `make test` is what CI runs (.ci/run), and nothing less.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(PATH):$(HOME)/.cargo/bin
# A download that breaks off is tried again.
export CARGO_NET_RETRY ?= 10
# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help build demo clean-demo test lint bench bench-scale soak mutate deps-build deps-demo deps-test deps-bench root

help:
	@echo "make build       build the programs (release) into target/release"
	@echo "make demo        three real nodes on this machine: placement, balancing, a crash, a power cut (as root)"
	@echo "make clean-demo  take the demo down and show that nothing is left (as root)"
	@echo "make test        everything: format, rules of the house, lints, tests, real containerd (as root)"
	@echo "make lint        the first half of that: no root needed"
	@echo "make bench       the figures of README.md, beside their floors (as root)"
	@echo "make bench-scale the figures of placement at scale: no root, no nodes, less than ten minutes"
	@echo "make soak        10,000 simulated cluster-hours of 200 nodes under faults (SOAK_HOURS, SOAK_SEED, JOBS); goes on where it ended"
	@echo "make mutate      plants each listed bug in a copy of the tree and sees that tests or simulation notice it"

build: deps-build
	cargo build --release --locked --workspace --bins
	@echo "built: $(TARGET)/release/{wherry,wherry-scheduler,wherry-agent,wherry-logger}"

demo: deps-demo root
	cargo build --locked --workspace --bins
	$(TARGET)/debug/demo up

clean-demo: deps-demo root
	cargo build --quiet --locked -p tests-system --bin demo
	$(TARGET)/debug/demo down

lint: deps-build
	cargo fmt --all --check
	cargo tidy
	cargo clippy --locked --workspace --all-targets -- -D warnings

test: deps-test root
	@begin=$$SECONDS; \
	umask 022; \
	! findmnt -no OPTIONS -T "$${TMPDIR:-/tmp}" | grep -qw noexec || export TMPDIR=/var/tmp; \
	step() { echo "== $$*"; "$$@" || { echo "FAILED: $$*"; exit 1; }; }; \
	step $(MAKE) --no-print-directory lint; \
	step cargo build --locked --workspace --bins; \
	step cargo test --locked --workspace; \
	step tests/system/cgroup-v2/containers.sh; \
	echo "ALL PASSED: format, tidy, clippy, tests, simulation, real containerd on both control group versions, in $$((SECONDS - begin)) s"

bench: deps-bench root
	cargo build --release --locked --workspace --bins
	cargo bench --locked -p agent-network --bench table --bench stress
	cargo bench --locked -p tests-system

bench-scale: deps-build
	cargo bench --locked -p scheduler --bench scale

# Each seed is one cluster-hour. What is done is in target/simulation/done.txt.
SOAK_HOURS := 10000
SOAK_SEED := 1
JOBS := $(shell nproc)

soak: deps-build
	cargo sim --seed $(SOAK_SEED) --count $(SOAK_HOURS) --nodes 200 --hours 1 --jobs $(JOBS) \
		--done target/simulation/done.txt --folder target/simulation

mutate: deps-build
	cargo mutate

deps-build deps-demo deps-test deps-bench: deps-%:
	@packaging/setup.sh $*

root:
	@[ "$$(id -u)" = 0 ] || { echo "real nodes need namespaces, cgroups and containerd: run this as root" >&2; exit 1; }
