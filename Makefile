# Two commands do all the set-up: `make figures` and `make test`. Nothing here that snakemake could do.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -I -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { command -v $$p; break; }; done)
# processes that share the tests, a file at a time; most of them wait for Snakemake to start
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
# nothing here runs on SLURM; with its plugin, and where SLURM is away, Snakemake would wait ten seconds for it at every start
export SLURM_CONF := /dev/null
export PATH := $(CURDIR)/$(BIN):$(PATH)
# SYSTEM=1: also tests that change this machine (Debian packages, mounted folders, a SLURM until their end); CI asks for them
export SYSTEM
# what would send packages elsewhere than into $(VENV), or take them from elsewhere
unexport PYTHONHOME PYTHONPATH PYTHONUSERBASE VIRTUAL_ENV
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_CONSTRAINT PIP_REQUIREMENT PIP_NO_DEPS PIP_DRY_RUN
export PIP_USER := 0
# Snakemake needs a home to write to, which a container's bare user number has not
ifneq ($(shell test -d "$$HOME" -a -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/$(VENV)/home
endif
# an environment that is of no use any more: its folder was moved or copied, and its scripts name the old one; its Python is gone
STALE := $(shell test -e $(VENV)/python && { test ! -e $(BIN)/pip || grep -qF "$$(pwd -P)/$(BIN)/python" $(BIN)/pip; } && \
	$(BIN)/python -I -c "" 2>/dev/null || echo FORCE)
.PHONY: figures slurm test test-long lint bench bench-gpu locks clean FORCE

figures: $(VENV)/runtime
	snakemake figures/fig2.pdf figures/fig3.pdf

# what `snakemake --profile slurm` needs
slurm: $(VENV)/slurm

test: $(VENV)/development $(if $(SYSTEM),$(VENV)/slurm)
	pytest -m "not long" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_OPTIONS)

test-long: $(VENV)/development $(if $(SYSTEM),$(VENV)/slurm)
	pytest -m long $(PYTEST_OPTIONS)

lint: $(VENV)/development
	ruff check . && ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	mypy

bench: $(VENV)/runtime
	python benchmarks/training_speed.py $(if $(QUICK),--quick)
	python benchmarks/language_speed.py $(if $(QUICK),--quick)

bench-gpu: $(VENV)/runtime
	python benchmarks/gpu_training.py

# requirements-*.lock anew, after a change of the other files of pins; what these leave open stays as it is locked
LOCK = $(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --custom-compile-command "make locks" --python-version 3.11 \
	-c constraints.txt requirements.txt
locks: $(VENV)/development
	$(LOCK) --universal -o requirements-cuda.lock
	$(LOCK) --python-platform x86_64-manylinux_2_28 --override requirements-cpu.txt -o requirements-cpu.lock \
		$(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)") \
		$(if $(PIP_EXTRA_INDEX_URL),--extra-index-url "$(PIP_EXTRA_INDEX_URL)" --index-strategy unsafe-best-match)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage build

$(VENV)/python: $(STALE)
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, as python3 or PYTHON=/path/to/python" >&2; exit 1; }
	@test ! -e $@ || echo "$(VENV) was made for another folder or another Python: it is made anew" >&2
	$(PYTHON) -P -m venv --clear $(VENV)
	@touch $@

FORCE:

# with the hash of every file; without CUDA's packages where there is no GPU, if pip finds the wheel that is locked there
$(VENV)/runtime: $(VENV)/python requirements-cuda.lock requirements-cpu.lock pyproject.toml
	@lock=requirements-cpu.lock; \
	if test -e /dev/nvidiactl; then lock=requirements-cuda.lock; \
	elif ! awk '/^torch==/ {here = 1} here {print} here && !/\\$$/ {exit}' $$lock | $(BIN)/python -P -m pip install --dry-run --quiet \
		--no-deps --require-hashes -r /dev/stdin >/dev/null 2>&1; then \
		lock=requirements-cuda.lock; \
		echo "PyTorch with CUDA, from the package index: pip finds no $$(grep -o '^torch==[^ ]*' requirements-cpu.lock) of the locked" \
			"hash for this Python (PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL may say where)" >&2; \
	fi; \
	$(BIN)/python -P -m pip install --quiet --require-hashes -r $$lock
	$(BIN)/python -P -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/slurm: $(VENV)/runtime requirements-slurm.txt
	$(BIN)/python -P -m pip install --quiet -r requirements-slurm.txt -c constraints.txt
	@touch $@

$(VENV)/development: $(VENV)/runtime requirements-dev.txt
	$(BIN)/python -P -m pip install --quiet -r requirements-dev.txt -c constraints.txt
	@touch $@
