# Two commands do all the set-up: `make figures` and `make test`. Nothing here that snakemake could do.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -P -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
# processes that share the tests, a file at a time; most of them wait for Snakemake to start
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
# nothing here runs on SLURM; where it is installed but away, Snakemake would wait ten seconds for it at every start
export SLURM_CONF := /dev/null
export PATH := $(CURDIR)/$(BIN):$(PATH)
# SYSTEM=1: also tests that change this machine (Debian packages, mounted folders, a SLURM until their end); CI asks for them
export SYSTEM
.PHONY: figures test test-long lint bench bench-gpu clean

figures: $(VENV)/runtime
	snakemake figures/fig2.pdf figures/fig3.pdf

test: $(VENV)/development
	pytest -m "not long" -n $(WORKERS) --dist loadfile

test-long: $(VENV)/development
	pytest -m long

lint: $(VENV)/development
	ruff check . && ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	mypy

bench: $(VENV)/runtime
	python benchmarks/training_speed.py $(if $(QUICK),--quick)

bench-gpu: $(VENV)/runtime
	python benchmarks/gpu_training.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build

$(VENV)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, as python3 or PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -P -m venv $(VENV)
	@touch $@

$(VENV)/runtime: $(VENV)/python requirements.txt constraints.txt pyproject.toml
	$(BIN)/python -P -m pip install --quiet -r requirements.txt -c constraints.txt
	$(BIN)/python -P -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/development: $(VENV)/runtime requirements-dev.txt
	$(BIN)/python -P -m pip install --quiet -r requirements-dev.txt -c constraints.txt
	@touch $@
