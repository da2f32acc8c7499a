# make train | make test | make test-slow | make sanitize | make lint | make format
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: train test test-slow sanitize lint format clean

train: $(STAMP)
	@$(BIN)/bptt-train $(ARGS)

test: $(STAMP)
	$(BIN)/pytest $(ARGS)

test-slow: $(STAMP)
	$(BIN)/pytest -m slow $(ARGS)

# The C core under the address, undefined-behaviour, leak and thread sanitizers.
sanitize:
	sh tests/kernels/sanitize.sh

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The stamp is written last, so that an interrupted installation is taken up again.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
