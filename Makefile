# The same verbs for people and CI. Needs make, Python 3.11 or newer with venv, and a package registry; nothing else.
#
# Each verb installs what it needs into .venv, in the versions of constraints.txt, and does so again only when
# pyproject.toml or constraints.txt has changed. On a machine whose pip is set up for CPU builds of torch (an extra
# index or a folder of wheels), torch comes from there.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
PYTEST := $(PY) -m pytest --numprocesses auto --durations 10

# One stamp per set of extras; see the last rules.
FOR_USERS := $(VENV)/.has-all
FOR_DEVELOPERS := $(VENV)/.has-all,test,dev
FOR_BENCHES := $(VENV)/.has-all,bench

# The first Python that can make an environment; set PYTHON=... to choose another.
PYTHON ?= $(firstword $(foreach python,python3.11 python3 python3.12 python3.13 /usr/bin/python3,$(shell \
    $(python) -c 'import sys, ssl, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(python))))

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check format bench docs clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(FOR_USERS)  ## learn a picture classifier, then a small assistant stage by stage; twelve minutes and some
	$(PY) -m sw2.faces.cli.demo

test: $(FOR_DEVELOPERS)  ## the tests that take seconds
	$(PYTEST) -m "not slow"

test-slow: $(FOR_DEVELOPERS)  ## the tests that take minutes
	$(PYTEST) -m slow

check: $(FOR_DEVELOPERS)  ## style, types, layers, stale docs
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(PY) scripts/make_docs.py --check

format: $(FOR_DEVELOPERS)  ## put style right where that can be done by itself
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(FOR_BENCHES)  ## every comparison with a peer, one table each
	@set -e; for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(PY) $$file; done

docs: $(FOR_USERS)  ## write the pages that are made from code
	$(PY) scripts/make_docs.py

clean:  ## remove the environment, caches and build results
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# .has-all,bench means that `pip install -e .[all,bench]` was done.
$(VENV)/.has-%: pyproject.toml constraints.txt | $(PY)
	@echo "installing sw2[$*] into $(VENV)"
	@$(PIP) install --constraint constraints.txt --editable '.[$*]'
	@touch '$@'

$(PY):
	@if [ -z "$(PYTHON)" ]; then \
	    echo "No Python 3.11 or newer that can make an environment was found." >&2; \
	    echo "On Debian and Ubuntu: apt-get install python3 python3-venv" >&2; \
	    echo "Elsewhere, name one: make PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	fi
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
