# Each target does all its own set-up, in a virtual environment .venv in this folder.
PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
READY := $(VENV)/.ready

.PHONY: demo test lint acceptance models bench peers clean

# The CPU build of torch where the index has one; it is needed to export and to compare, never to run.
$(READY): pyproject.toml export/pyproject.toml bench/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet -e export -e bench -e ".[dev]"
	$(BIN)/python -m compileall -q runtime export bench
	$(BIN)/python -c "import pathlib; pathlib.Path('$(READY)').touch()"

demo: $(READY)
	$(BIN)/python models/demo.py

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

models: $(READY)
	$(BIN)/python models/build.py

# Bulk embedding is checked on Ray's local cluster; tests do without it.
acceptance: $(READY)
	$(BIN)/python -m pip install --quiet -e ".[ray]"
	$(BIN)/python models/build.py
	$(BIN)/python tests/acceptance/run.py

# Every peer gets an environment of its own under .peers; the first run installs them (several GB).
peers: $(READY)
	$(BIN)/python models/build.py
	$(BIN)/python -m sanderling_bench.peers --output docs/benchmarks.md

clean:
	$(PYTHON) -c "import shutil; [shutil.rmtree(p, ignore_errors=True) for p in ('$(VENV)', 'dist', 'models/bundles', '.peers')]"
