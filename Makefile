# Everything is set up in .venv by the first target that needs it. Needs Python >= 3.11 with pip.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# The tests start some hundred processes, each of which would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install quickstart leaderboard leaderboard-small test test-thorough test-slow api check reliability scale benchmark clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(READY)  ## Install the package with all its extras into .venv

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; choose another with make PYTHON=python3.11"; exit 2; }
	@# pip installs from outside, so that Pythons packaged without ensurepip work too.
	$(PYTHON) -m venv --without-pip .venv
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(READY)

quickstart: $(READY)  ## Make two zoos, evaluate baselines, SSL and SNE, write leaderboard.html
	$(BIN)/zoo-gen run tetris_seed
	$(BIN)/zoo-gen run digits_hyp
	$(BIN)/zoo-bench run quickstart --workers 2
	$(BIN)/zoo-bench run quickstart_accuracy --workers 2 --encoder 'hyper_representation_small[steps=500]' \
		--encoder 'sne_small[steps=500]' --encoder statistics_boosting --encoder default
	$(BIN)/zoo-bench leaderboard --html leaderboard.html

leaderboard: $(READY)  ## Make the page of the results that ship
	$(BIN)/zoo-bench leaderboard --results leaderboard/results --html leaderboard/index.html

# What the small benchmarks take from nothing; docs/benchmarks.md has its result. ZOO_DATA_ROOT says where images are.
leaderboard-small: $(READY)  ## Make five zoos of CNNs, run three benchmarks with every small encoder and three seeds
	$(BIN)/zoo-bench run standard_small cross_dataset_small cross_architecture_small --encoder small --seeds 0,1,2 \
		--missing-zoos make --workers 2 --device cpu --results results-small
	$(BIN)/zoo-bench leaderboard --results results-small --html leaderboard-small.html \
		--markdown leaderboard-small.md --parquet leaderboard-small.parquet
	$(BIN)/zoo-bench validate --results results-small

# A process a core and one more: a third of the time is waiting, for processes that start, end and are killed. The models
# are so small that a second thread of BLAS or OpenMP only waits, which is a quarter of the time of tests of zoo_bench.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist worksteal \
	--numprocesses $$($(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 1)')

test: $(READY)  ## Run the tests
	$(PYTEST) -m "not thorough and not slow"

test-thorough: $(READY)  ## Run the tests that take long, of which `make test` has quick forms
	$(PYTEST) -m "thorough and not slow"

test-slow: $(READY)  ## Run the long forms of the tests
	$(BIN)/python -m pytest -m slow

api: $(READY)  ## Make docs/api.md from the docstrings
	$(BIN)/python docs/make_api.py

check: $(READY)  ## Run the linters and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

reliability: $(READY)  ## Inject the faults of docs/reliability.md and print its table
	$(BIN)/python -m tests.reliability.report

scale: $(READY)  ## Measure what docs/scale.md states; takes 3 GB of disk
	$(BIN)/python -m tests.benchmarks.scale

benchmark: $(READY)  ## Measure the speeds that the README states
	$(BIN)/python tests/benchmarks/population.py
	$(BIN)/python tests/benchmarks/store.py
	$(BIN)/python -m tests.benchmarks.hub
	$(BIN)/python -m tests.benchmarks.encoders

clean:  ## Remove the environment and what quickstart made
	rm -rf .venv zoos results leaderboard.html results-small leaderboard-small.*
