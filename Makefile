PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test test-all test-edges test-django test-packages bench docs clean

test: .venv/ready
	$(BIN)/python -m scripts.test

test-all: .venv/ready
	$(BIN)/nox

# The oldest and the newest pair, on every database.
test-edges: .venv/ready
	$(BIN)/nox --tags edges

test-django: .venv/ready
	$(BIN)/python scripts/django_suite.py

# For example ARGUMENTS="wagtail --database postgresql".
test-packages: .venv/ready
	$(BIN)/python -m scripts.packages $(ARGUMENTS)

bench: .venv/ready
	$(BIN)/python -m bench

docs: .venv/ready
	$(BIN)/sphinx-build -W --keep-going docs docs/_build

demo: .venv/demo/ready
	.venv/demo/bin/python scripts/demo.py

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

# Only Django and this project, so that it is ready in seconds.
.venv/demo/ready: pyproject.toml
	$(PYTHON) -m venv .venv/demo
	.venv/demo/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

clean:
	rm -rf .venv .nox docs/_build
