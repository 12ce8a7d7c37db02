# Every verb does its own set-up: virtual environment, locked dependencies, Rust extension, stubs.
# `make run` and `make test` are all that a newcomer needs; `make help` lists the rest.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
BIN := .venv/bin
RUST_TARGETS := --workspace --exclude lastunit-python

.DEFAULT_GOAL := help
.PHONY: bench-attacks bench-fronts bench-peers instructions monitoring-check help setup run fuzz test test-rust test-python test-slow lint format proto proto-check bench bench-recovery history crash crash-disk sim sim-defects lock clean migration

help: ## List the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: ## Build everything once (the other verbs call this)
	@$(PYTHON) tools/setup.py

run: setup ## Run a whole flash sale: 2,000 units, 20,000 buyers (ARGS=--exit stops after the result)
	@$(BIN)/lastunit run $(ARGS)

# Processes that run Python tests side by side; WORKERS=0 runs them in one, in order.
WORKERS ?= 3
test: setup test-rust test-python ## Run the everyday tests (minutes)

test-rust: setup
	cargo test --locked $(RUST_TARGETS)

test-python: setup
	$(BIN)/pytest -m "not slow" -n $(WORKERS) --durations=15 --durations-min=3 $(ARGS)

test-slow: setup ## Run the tests that take longer: whole incident replays, kills under load
	$(BIN)/pytest -m slow $(ARGS)

TARGET ?=
SECONDS ?= 60
SEED ?= 0
fuzz: setup ## Fuzz the decoders (TARGET=request SECONDS=60; without TARGET all of them; SEED=0 is another each time)
	$(BIN)/python tools/fuzz.py --target "$(TARGET)" --seconds $(SECONDS) --seed $(SEED)

lint: setup ## Check style, types, protos and house rules
	cargo fmt --all --check
	cargo clippy --locked $(RUST_TARGETS) --all-targets -- -D warnings
	cargo clippy --locked -p lastunit-python -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint
	$(BIN)/python tools/states_page.py --check

format: setup ## Format Rust and Python
	cargo fmt --all
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

proto: setup ## Generate the Python stubs from proto/
	$(BIN)/python tools/generate_stubs.py

proto-check: setup ## Fail on drifted stubs, and on changes that break callers
	$(BIN)/python tools/generate_stubs.py --check
	$(BIN)/buf breaking --against proto/released.binpb.gz

monitoring-check: setup ## Check alerts and dashboard with promtool, and fire them from a real server
	@$(BIN)/python tools/promtool.py --version
	$(BIN)/pytest tests/integration/monitoring $(ARGS)

bench: setup ## Measure the server's front beside an empty gRPC call, with ghz
	$(BIN)/python -m bench.front $(ARGS)

bench-fronts: setup ## Measure both fronts beside an empty call of each kind, with ghz
	$(BIN)/python -m bench.fronts $(ARGS)

bench-peers: setup ## Measure pairs beside Redis, PostgreSQL and TigerBeetle (ARGS='--tigerbeetle PATH')
	$(BIN)/python -m bench.peers $(ARGS)

instructions: setup ## Count instructions of an operation with valgrind; fail on a rise of 5 %
	$(BIN)/python -m bench.instructions $(ARGS)

crash: setup ## Kill the server in rounds under load, account for every call (ARGS='--rounds 1000')
	@$(BIN)/python -m tests.crash.rounds $(ARGS)

crash-disk: setup ## Flip every bit, cut at every byte, fail every system call of the journal
	cargo test --release --locked -p lastunit-node --test node damage -- --ignored --nocapture
	@$(BIN)/python -m tests.crash.syscalls $(ARGS)

history: setup ## Check 10,000,000 recorded replies by their place, and 1,000 windows with porcupine
	@$(BIN)/python -m tests.history.record $(ARGS)

bench-attacks: setup ## Measure a good client beside each attack on either front, with the limits off and on
	@$(BIN)/python -m bench.attacks $(ARGS)

SEEDS ?= 50000
SEED_START ?= 1
sim: setup ## Live through seeds of the deterministic simulation (SEEDS=50000 SEED_START=1)
	cargo run --release --locked -p lastunit-sim -- --seeds $(SEEDS) --start $(SEED_START) $(ARGS)

sim-defects: setup ## Plant each known defect and wait until the simulation notices (ARGS='--only flush')
	@$(BIN)/python -m tests.defects.run $(ARGS)

bench-recovery: setup ## Measure starts, memory and pauses at 10 million live reservations
	$(BIN)/python -m bench.recovery $(ARGS)

DATABASE ?= order
migration: setup ## Draft the next revision of a database (DATABASE=order TITLE='Add a column')
	$(BIN)/python tools/new_migration.py $(DATABASE) "$(TITLE)"

lock: setup ## Resolve requirements/dev.in anew into requirements/dev.txt
	$(BIN)/python tools/lock.py

clean: ## Remove what the verbs built; data directories stay
	rm -rf .venv .tools target server/lastunit_server/_native*.so
