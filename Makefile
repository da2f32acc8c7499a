# make train | make test | make test-slow | make docs | make sanitize | make lint | make format
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev
NOTEBOOKS := $(patsubst docs/%.py,build/%.ipynb,$(wildcard docs/lessons/[0-9]*.py))
SOURCES   := $(shell find bptt_lab conf -name '*.py' -o -name '*.yaml' -o -name '*.c')
# On a terminal pip shows how far it is; in a log it would fill pages.
PIP     = test -t 1 || quiet=--quiet; $(BIN)/pip install $$quiet --disable-pip-version-check

.PHONY: train test test-slow docs sanitize lint format clean

train: $(STAMP)
	@$(BIN)/bptt-train $(ARGS)

test: $(DEV)
	$(BIN)/pytest $(ARGS)

test-slow: $(DEV)
	$(BIN)/pytest -m slow $(ARGS)

# The site, in build/site/index.html. Each lesson is run, so that its pictures are this machine's.
docs: $(DEV) $(NOTEBOOKS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open build/site/index.html."

build/lessons/%.ipynb: docs/lessons/%.py $(SOURCES) | $(DEV)
	$(BIN)/python scripts/site/execute.py $< $@

# The C core under the address, undefined-behaviour, leak and thread sanitizers.
sanitize:
	sh tests/kernels/sanitize.sh

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A stamp is written last, so that an interrupted installation is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@echo "Installing PyTorch, Lightning and what else training needs into $(VENV). 1.4 GB, or more where PyTorch comes with CUDA; 1.5 minutes of a processor and the download, once."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --constraint constraints.txt --editable .
	@touch $@

$(DEV): $(STAMP)
	@echo "Installing what tests and checks need besides, Ray, pandas and mypy among it. 1 GB more, 1 minute of a processor and the download, once."
	@$(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
