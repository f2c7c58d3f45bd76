# The two commands: `make demo` and `make test`. Both make .venv on first use, are idempotent, and work offline afterwards.
PY := .venv/bin/python
PYTHON ?=
DATA := $(if $(COUNTERPOINT_DATA),$(COUNTERPOINT_DATA),$(wildcard ../shared/data))
export COUNTERPOINT_DATA := $(if $(DATA),$(abspath $(DATA)),)
export TOKENIZERS_PARALLELISM := true
SIZE ?= full
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
STRICT := src/counterpoint/objectives src/counterpoint/kernels src/counterpoint/memory

.PHONY: demo test lint docs bench lock clean help
.DEFAULT_GOAL := help

help:  ## these lines
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

.venv/ready: requirements.lock pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" bash scripts/setup.sh

demo: .venv/ready  ## train a code-search engine on this machine's own Python packages, measure it, search it
	@$(PY) -m counterpoint demo --size $(SIZE) --overwrite

test: .venv/ready  ## every test
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal

lint: .venv/ready  ## ruff, and mypy --strict on the core
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy --strict $(STRICT)

docs: .venv/ready  ## build the documentation site into site/
	@$(PY) -m counterpoint.docs.pages && NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet && echo "site/index.html"

bench: .venv/ready  ## every benchmark, one after the other (installs the peers first)
	@$(PY) -m pip install -q -c requirements.lock '.[bench]' --no-build-isolation
	@for b in bench/[a-z]*.py; do $(PY) $$b || exit 1; done; $(PY) bench/_readme.py

lock:  ## resolve the extras again and write requirements.lock
	@PYTHON="$(PYTHON)" bash scripts/lock.sh

clean:  ## remove everything that make made
	rm -rf .venv site runs build .pytest_cache .mypy_cache .ruff_cache .hypothesis
