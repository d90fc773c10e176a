# Penstock's front door. Every target sets up what it needs; outputs go to build/ only.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.penstock-setup

RECIPE ?= recipes/digits.toml
JOBS   ?= 2
HLS    ?= penstock
ARGS   ?=
LOCKED ?=

# The tools of the environment come first on PATH: cocotb and Verilator's makefiles call `python`.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# One thread per process: tests run in parallel, and OpenMP barriers beside another busy process cost far more than they gain.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## this list
	@echo "Penstock: CNN accelerators that fetch and compute only the filters that this input needs."
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@echo
	@echo "Start with: make hls"

.PHONY: setup
setup: $(STAMP) ## the Python environment in .venv (the other targets call it; LOCKED=1: only wheels with the hashes of requirements.lock)

$(STAMP): pyproject.toml constraints.txt
	@command -v g++ >/dev/null || { echo "setup: g++ is missing; simulation compiles C++ (Debian: apt-get install g++)"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: $(PYTHON) is older than 3.11; name another: make setup PYTHON=python3.12"; exit 2; }
	@echo "setup: installing pinned packages into $(VENV) (minutes the first time)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(LOCKED),$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement requirements.lock)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

.PHONY: hls
hls: $(STAMP) ## from data to verified RTL and weight image (RECIPE=recipes/digits.toml; HLS=vitis: C++ for Vitis HLS)
	@$(BIN)/penstock hls $(RECIPE) --hls $(HLS) $(ARGS)

.PHONY: synth
synth: $(STAMP) ## place and route for ECP5, resources on AMD's families (RECIPE=recipes/digits.toml)
	@$(BIN)/penstock synth $(RECIPE) $(ARGS)

.PHONY: paths
paths: $(STAMP) ## critical paths of the recipe's network: scores, tests, figures, file for the hardware
	@$(BIN)/penstock paths --recipe $(RECIPE) $(ARGS)

.PHONY: train
train: $(STAMP) ## train the checkpoint that a recipe names (RECIPE=recipes/cifar10_vgg16.toml)
	@$(BIN)/penstock train $(RECIPE) $(ARGS)

.PHONY: explore
explore: $(STAMP) ## search designs of most accuracy at least cost (RECIPE=...)
	@$(BIN)/penstock explore $(RECIPE) $(ARGS)

.PHONY: report
report: $(STAMP) ## one HTML page about the recipe's accelerator (RECIPE=..., ARGS='--board kv260')
	@$(BIN)/penstock report $(RECIPE) $(ARGS)

.PHONY: sim
sim: $(STAMP) ## the cocotb regressions on Verilator (ARGS='-k name' for one)
	@$(BIN)/pytest -n $(JOBS) --dist loadfile -m sim --junitxml=build/junit/sim.xml $(ARGS) || { \
	  echo "sim: the failures again, with waveforms; above, and in build/junit/sim.xml, each one's file and its command"; \
	  PEN_WATCH=waves $(BIN)/pytest -n $(JOBS) --dist loadfile -m sim --lf --lfnf=none; exit 1; }

.PHONY: coverage
coverage: $(STAMP) ## code and functional coverage of the RTL by its regressions: docs/results/coverage.md
	$(BIN)/python -m sim.coverage --clear
	PEN_WATCH=coverage $(BIN)/pytest -n $(JOBS) --dist loadfile -k 'not illegal' $(ARGS) \
	  tests/test_rtl_*.py tests/test_situations.py tests/test_faults.py
	$(BIN)/python -m sim.coverage --markdown docs/results/coverage.md

.PHONY: test
test: $(STAMP) ## everything fast, one end-to-end run included
	$(BIN)/pytest -n $(JOBS) --dist loadfile --junitxml=build/junit/test.xml $(ARGS)

.PHONY: test-full
test-full: $(STAMP) ## every test, the slow ones too
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m '' --junitxml=build/junit/test.xml $(ARGS)

.PHONY: formal
formal: $(STAMP) ## proofs of the RTL's blocks, and that each can fail (ARGS=pen_fifo for one)
	$(BIN)/python -m sim.formal --jobs $(JOBS) $(ARGS)

.PHONY: lint
lint: $(STAMP) ## ruff, mypy, and Verilator's lint of the RTL library
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m sim.lint

.PHONY: format
format: $(STAMP) ## rewrite Python sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(STAMP) ## the measurements behind every claim; figures as JSON in build/bench
	@mkdir -p build/bench
	@for script in $(filter-out bench/__init__.py bench/table.py bench/networks.py bench/baseline.py bench/supply.py,$(wildcard bench/*.py)); do \
	  echo "bench: $$script"; \
	  $(BIN)/python $$script --json build/bench/$$(basename $$script .py).json; \
	done

.PHONY: lock
lock: $(STAMP) ## requirements.lock with hashes, docs/dependencies.md and the bill of materials, from constraints.txt
	@mkdir -p build
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --no-deps --report build/resolved.json -r constraints.txt
	$(BIN)/python bench/supply.py --lock build/resolved.json
	$(BIN)/python bench/supply.py --write

.PHONY: lock-check
lock-check: $(STAMP) ## whether the environment is the lock's, file by file
	$(BIN)/python bench/supply.py

.PHONY: clean
clean: ## remove build/ (the environment stays; remove .venv by hand)
	rm -rf build
