# make demo: five cases, diagnosed.  make test: every check.  Both set up what they need.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

.PHONY: demo test setup system lint unit lab docs startup bench constraints clean

demo: setup
	@$(BIN)/deadhop demo

test: setup system lint unit lab docs startup

setup: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("deadhop needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV) || { echo "No venv module: run  apt-get install python3-venv  and try again." >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What the lab tests need of the system. Where it may not be installed, those tests skip and say why.
system:
	@sh scripts/system-packages

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup
	$(BIN)/pytest -n auto -m "not lab"

lab: setup
	$(BIN)/pytest -m lab -rs

docs: setup
	$(BIN)/python scripts/generate.py --check

startup: setup
	@$(BIN)/python bench/startup.py

bench: setup
	@for file in bench/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

constraints: setup
	$(BIN)/pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o constraints.txt requirements.in

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
