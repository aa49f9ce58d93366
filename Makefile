# The project's commands; `make` alone lists them. CARGO_TARGET_DIR is respected, `target` otherwise.

.DEFAULT_GOAL := help
.PHONY: help demo build web test test-long outage check picture bench bench-cassandra bench-pipeline bench-partition-key bench-peers bench-spill soak soak-pipeline battery mutate-durability cassandra cassandra-jars setup-build setup-test

target := $(or $(CARGO_TARGET_DIR),target)
# What `make demo` hands to `pitwire demo`.
DEMO ?=
# What `make bench-pipeline` hands to its benchmark, and how often `make soak-pipeline` goes round.
BENCH ?=
ROUNDS ?= 200
# How long `make soak` runs, and the seed of an earlier one to replay.
SECONDS ?= 1800
SEED ?=

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# stdout belongs to the program: with --json somebody may be reading it.
demo: setup-build ## a simulated car, the agent, an embedded store and the page; options by DEMO="--for 20s --json"
	@tests/setup page
	@cargo build --release --package pitwire --bin pitwire >&2
	@$(target)/release/pitwire demo $(DEMO)

build: setup-build ## pitwire and firmware-sim, as released, in target/release
	@tests/setup page
	cargo build --release --workspace --bins

web: ## the page's bundle in web/dist (needs Node 20)
	@tests/setup web

test: ## set up, build and run every test, with real Cassandra, mosquitto, pseudo-terminals and a browser
	@tests/run

test-long: ## the system tests in their long forms: the agent killed forty times, ten minutes of outage (50 min)
	@PITWIRE_SYSTEM_LONG=1 tests/run -p pitwire --test system

outage: setup-build ## two hours of outage of a wide car in twelve minutes, and ten minutes in real time, against `pitwire plan` (as released; 30 min)
	@tests/setup test
	cargo build --release --workspace --bins
	PITWIRE_SYSTEM_LONG=1 cargo test --release --package pitwire --package firmware-sim --bins --test system plan -- --nocapture

check: ## rustfmt, clippy, shellcheck, cargo-deny
	@tests/check

picture: setup-build ## take the README's picture of the page under load anew (docs/pit-wall.png)
	@tests/setup test
	PITWIRE_SYSTEM_LONG=1 PITWIRE_PICTURE=$(CURDIR)/docs/pit-wall.png cargo test --package pitwire --package firmware-sim --bins --test system page

bench: setup-build ## the benchmarks
	cargo bench --workspace

bench-pipeline: setup-build ## the engine beside bare channels, and what the steps cost a sample (options for the engine by BENCH="--only cpu")
	@status=0; cargo bench --package pitwire-pipeline --bench engine -- $(BENCH) || status=$$?; \
	cargo bench --package pitwire --bench preprocess || status=$$?; \
	echo; echo "Beside SPDL, asyncio and other crates: make bench-peers (10 min)"; exit $$status

battery: setup-build ## the durability battery on real file systems, and what it measured as a table (needs root)
	@tests/setup test
	@tests/battery

soak: setup-build ## random faults against the spill and the whole system, SECONDS=1800; SEED=N replays one
	@tests/setup test
	@tests/soak all $(SECONDS) $(SEED)

mutate-durability: setup-build ## break the durability code in known ways and see the battery catch each (20 min)
	@tests/setup test
	@tests/mutants/run

soak-pipeline: setup-build ## the engine's semantics, bottlenecks and model-checked tests, ROUNDS=200 times in a row
	@pipeline/soak $(ROUNDS)

bench-partition-key: setup-build cassandra-jars ## the partition key of `chunks` against another, on a Cassandra of its own (5 min)
	@benches/partition_key/run

bench-spill: setup-build ## the disk queue beside dd, its bytes on the device, its start; a drain, and a healthy uplink (10 min; another disk by BENCH=/mnt/x)
	@tests/setup test
	@status=0; cargo bench --package pitwire --bench spill -- $(BENCH) || status=$$?; \
	benches/spill_system || status=$$?; exit $$status

bench-cassandra: setup-build ## a whole car into a real Cassandra and out again, as one table (40 min; parts by BENCH="--only f1")
	@benches/cassandra/run $(BENCH)

bench-peers: setup-build ## the pipeline engine beside its peers: Rust crates, asyncio, SPDL (10 min; docs/benchmarks.md)
	@benches/peers/run

cassandra: cassandra-jars ## a real Cassandra on 127.0.0.1:9042 in the foreground, until Ctrl-C (needs Java; see tests/cassandra/node)
	@tests/cassandra/node run .cache/cassandra/node

cassandra-jars: ## fetch the Cassandra server's jars into .cache, once (needs Maven)
	@tests/cassandra/node jars

setup-build: ## what a build needs: cc, pkg-config, OpenSSL's headers
	@tests/setup build

setup-test: setup-build ## what the tests need beyond that: mosquitto, socat, Chromium, Cassandra, npm packages
	@tests/setup test
