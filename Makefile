# Every habit of the project. `make help` lists them; each does its own set-up.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
# Hundreds of processes are started by tests and benchmarks, as users start them: from compiled modules.
export PYTHONDONTWRITEBYTECODE =
.DEFAULT_GOAL := help
.PHONY: help demo test test-again test-pythons check mypy lock bench bench-peers crash compat-prefect screenshots docs clean

help: ## list the targets
	@awk 'BEGIN{FS=":.*## "} /^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## run the examples: the console on live runs (headless for 30 s without a terminal)
	@if [ -t 0 ] && [ -t 1 ]; then $(BIN)/flowdeck demo; else $(BIN)/flowdeck demo --headless --seconds 30; fi

# By groups: what is dear to make and read only is made on one worker; every other test goes to whoever is free.
test: $(STAMP) ## run the tests, two at a time for each processor
	@rm -f .pytest_cache/v/cache/lastfailed
	$(BIN)/python -m pytest -n auto --dist loadgroup

# At most a few: many failures are no accident of a busy machine.
test-again: $(STAMP) ## what failed last, alone on the machine; what passes now is flaky: a defect, to be mended
	@test "$$(grep -c '": true' .pytest_cache/v/cache/lastfailed)" -le 3
	@echo "FAILED ONCE, tried again alone:"; cat .pytest_cache/v/cache/lastfailed
	$(BIN)/python -m pytest -n 0 --last-failed --last-failed-no-failures none

# What differs between Pythons shows in what is compiled, bound, imported and converted: that part, on each that is here.
OTHER_PYTHONS ?= python3.11 python3.12 python3.13 python3.14
QUICK = tests/unit tests/store/test_connection.py tests/store/test_schema.py tests/store/test_runs.py \
	tests/engine/test_authoring.py tests/engine/test_flows.py
test-pythons: ## the quick part of the tests on every other Python that is on PATH
	@set -e; for python in $(OTHER_PYTHONS); do \
	  $$python -c 'import ensurepip, venv' 2> /dev/null || { echo "$$python: none here"; continue; }; \
	  test "$$($$python -V)" != "$$($(PYTHON) -V)" || continue; \
	  venv=build/$$python; test -x $$venv/bin/python || $$python -m venv $$venv; \
	  $$venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'; \
	  echo "$$($$venv/bin/python -V):"; \
	  $$venv/bin/python -m pytest -q -n auto -p no:cacheprovider $(wildcard $(QUICK)); \
	done

check: $(STAMP) mypy ## lint, types, the import rule
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/unit

# Every folder stands under the package's name for mypy, through links, as it does when it is installed.
mypy: $(STAMP)
	@rm -rf build/mypy && mkdir -p build/mypy/flowdeck
	@ln -s $(addprefix ../../../,$(wildcard public/*.py) public/py.typed public/schedules public/testing store engine tui cli examples) build/mypy/flowdeck/
	cd build/mypy && MYPYPATH=. $(abspath $(BIN))/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p flowdeck

# One file for all platforms and Pythons: pip install --require-hashes -r requirements.lock
UV = build/uv/bin/uv
lock: ## write requirements.lock anew: each dependency by version and hashes
	@test -x $(UV) || { $(PYTHON) -m venv build/uv && build/uv/bin/python -m pip install --quiet --disable-pip-version-check uv; }
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --extra dev --no-header --no-annotate --no-emit-index-url --output-file requirements.lock pyproject.toml

bench: $(STAMP) ## measure the budgets of docs/design.md, side by side with their floors
	$(BIN)/python -m benchmarks

bench-peers: $(STAMP) ## overhead per task beside Prefect, DBOS and Huey (installed into build/peers; needs the network once)
	$(BIN)/python -m benchmarks.peers

crash: $(STAMP) ## the long fault sweep: real kills at random points
	FLOWDECK_CRASH_ROUNDS=200 $(BIN)/python -m pytest -q -n 6 --dist load tests/crash

# Prefect in an environment of its own; its 3.8.8 does not start with the newest fastapi.
PREFECT_VENV = build/prefect
$(PREFECT_VENV)/.installed:
	@test -x $(PREFECT_VENV)/bin/python || $(PYTHON) -m venv $(PREFECT_VENV)
	$(PREFECT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'prefect==3.8.8' 'fastapi==0.139.*' 'pytest>=8.3,<10' pytest-timeout
	@touch $@

compat-prefect: $(PREFECT_VENV)/.installed ## run tests/compat/prefect3 against Prefect itself and report the agreement (minutes)
	FLOWDECK_COMPAT=prefect $(PREFECT_VENV)/bin/python -m pytest -q -c tests/compat/prefect3/prefect.ini --rootdir=. --confcutdir=tests/compat/prefect3 --tb=short --show-capture=no tests/compat/prefect3

screenshots: $(STAMP) ## make screenshots/ from the real console on real runs
	$(BIN)/python screenshots/make.py

docs: $(STAMP) ## regenerate docs/state-machine.md and the key table in README.md
	$(BIN)/python docs/generate.py

clean: ## remove what the targets made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
