# Everything a stranger types. `make train` and `make test` install first, if need be.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install train test faults lint benchmark figures

install: .venv/.installed

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

train: install
	$(BIN)/resnetlab train cifar10-quick

test: install
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --ignore tests/faults

# Real kills, full disks and lost machines take minutes, so `make test` leaves them out. The long
# form: more kills, every operation on a file, two hosts (as root).
faults: install
	RESNETLAB_FAULTS=long $(BIN)/pytest tests/faults -v --durations 0

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

benchmark: install
	@$(BIN)/python -m benchmarks

# RUN: a finished run folder of cifar10-quick to draw from; without it one is trained.
figures: install
	$(BIN)/python -m benchmarks.figures $(RUN)
