# `make train` and `make test` set up all they need; the rest is for who works on bigan.
VENV ?= .venv
PYTHON ?= python3
# For a CPU-only torch: make train TORCH="torch torchvision --index-url URL", with the URL that pytorch.org's selector prints.
TORCH ?= "torch>=2.11" "torchvision>=0.26"
# Processes that test, a few hundred MB and about a core each.
JOBS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := setup.py pyproject.toml $(wildcard csrc/* csrc/cpu/* csrc/cuda/*)
SHELL_SCRIPTS := .ci/run $(wildcard launch/*.sh slurm/*.sh tests/gpu/run)
CPP := $(wildcard csrc/*.cpp csrc/*.h csrc/cpu/* csrc/cuda/* tests/ops/*.h tests/ops/*.cpp)
CODE := $(CPP) $(SHELL_SCRIPTS) $(shell find bigan benchmarks tests -name "*.py") setup.py

.PHONY: train test soak lint format dist clean
.DEFAULT_GOAL := train

$(READY): $(SOURCES)
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet "setuptools>=77" wheel ninja pybind11
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[dev]"
	touch $@

train: $(READY)  ## pack the embedded digits, train a DCGAN on them
	$(BIN)/bigan pack digits data/digits --size 32
	$(BIN)/bigan train configs/digits.yaml

test: $(READY)  ## every test that takes seconds
	$(BIN)/python -m pytest -m "not soak" -n $(JOBS) --dist loadfile

soak: $(READY)  ## every test, those that take minutes included
	$(BIN)/python -m pytest

lint: $(READY)  ## what a commit must pass
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/lint-imports
	$(BIN)/pyright
	wc -l $(CODE) | awk '$$2 != "total" && $$1 > 300 {print $$2 ": " $$1 " lines; at most 300"; long = 1} END {exit long}'
	if command -v shellcheck >/dev/null; then shellcheck --external-sources $(SHELL_SCRIPTS); fi

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

dist: $(READY)  ## a source distribution and, built from it, a wheel
	rm -rf dist
	$(BIN)/python -m build --no-isolation

clean:
	rm -rf build dist *.egg-info bigan/*.so .pytest_cache .ruff_cache .hypothesis
