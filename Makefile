# make demo        fit the Minnesota radon data; summary on the screen, plots in demo-output/
# make test        lint, format, types and every fast test, as CI does
# make check-slow  the long statistical tests
# make bench       measure ember beside its peers (which get an environment of their own)
# make clean       remove the environments and caches
#
# On a bare machine only CPython 3.11-3.13 with venv is needed: make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
VENV_PEERS ?= .venv-peers
WORKERS ?= 2
PYTEST_ARGS ?=

# Chains and test workers are the unit of parallelism, not the threads of one matrix product.
export OMP_NUM_THREADS ?= 1
# Compiled code is kept inside the environment, away from the user's own cache.
export EMBER_CACHE_DIR ?= $(abspath $(VENV))/ember-cache

PIP_INSTALL = -m pip install --disable-pip-version-check --quiet
SUPPORTED = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) and 'ember needs CPython 3.11-3.13, and $(PYTHON) is ' + sys.version.split()[0] + '; choose another: make PYTHON=python3.12')

.DELETE_ON_ERROR:
.PHONY: demo test lint unit check-slow bench bench-peers clean help

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

$(VENV)/bin/python:
	@$(PYTHON) -c "$(SUPPORTED)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ember-installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python $(PIP_INSTALL) -c constraints.txt -e .
	touch $@

$(VENV)/.ember-dev-installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python $(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	touch $(VENV)/.ember-installed $@

$(VENV_PEERS)/.peers-installed: benchmarks/peers-requirements.txt
	@$(PYTHON) -c "$(SUPPORTED)"
	$(PYTHON) -m venv $(VENV_PEERS)
	$(VENV_PEERS)/bin/python $(PIP_INSTALL) -r benchmarks/peers-requirements.txt
	touch $@

demo: $(VENV)/.ember-installed
	$(VENV)/bin/python -m ember.examples.radon --output demo-output

lint: $(VENV)/.ember-dev-installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

unit: $(VENV)/.ember-dev-installed
	$(VENV)/bin/python -m pytest -n $(WORKERS) --durations=10 $(PYTEST_ARGS)

test: lint unit

check-slow: $(VENV)/.ember-dev-installed
	$(VENV)/bin/python -m pytest -n $(WORKERS) -m slow --durations=20 $(PYTEST_ARGS)

bench-peers: $(VENV_PEERS)/.peers-installed

bench: $(VENV)/.ember-installed bench-peers
	$(VENV)/bin/python benchmarks/handlers.py --peer $(VENV_PEERS)/bin/python
	$(VENV)/bin/python benchmarks/mcmc.py --peers $(VENV_PEERS)/bin/python
	$(VENV)/bin/python benchmarks/enumeration.py --peers $(VENV_PEERS)/bin/python
	$(VENV)/bin/python benchmarks/svi.py --peers $(VENV_PEERS)/bin/python

clean:
	rm -rf $(VENV) $(VENV_PEERS) .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-output
