# `make demo` and `make test` work on a machine that has never seen the project: Python >= 3.11 and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Packages whose tensor shapes are checked while tests run.
SHAPED := polyglance.engines,polyglance.mixture,polyglance.model,polyglance.train,polyglance.evaluate
# One thread per test worker; more would fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --jaxtyping-packages=$(SHAPED),beartype.beartype

.PHONY: help install install-dev demo test test-fast check style clean

help:
	@echo "make demo       a study from nothing to out/micro/report/index.html (about 8 minutes on two cores)"
	@echo "make test       all tests        make test-fast  without the slow ones"
	@echo "make check      ruff and mypy    make style      let ruff mend what it can"

# The stamps are redone when what is installed has changed.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

demo: $(VENV)/.installed
	$(BIN)/polyglance study run examples/micro.toml

test: $(VENV)/.installed-dev
	$(PYTEST) tests

test-fast: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow" tests

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

style: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache .hypothesis
