# make demo   the whole loop on the example       make test    the tests
# make check  format, lint, types, layers         make venv    only the environment
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready
# Test processes side by side, one thread each: threads that share a core wait for one another.
JOBS ?= 2
MODELS_OFFLINE := HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

.PHONY: demo test check format venv clean
.DEFAULT_GOAL := demo

demo: $(READY)
	$(MODELS_OFFLINE) $(BIN)/python examples/support_tickets/demo.py

test: $(READY)
	$(MODELS_OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(READY)

# torch first and by version: nothing that comes after it may pull another build.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("edgeloop needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable '.[cpu,train,qlora,sign,example,dev]'
	touch $(READY)

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
