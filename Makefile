# Everything a newcomer needs: `make demo` and `make test`. Both make .venv and install.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo export web test test-fast examples lint format types docs benchmarks clean help

help:
	@echo "make demo        render a small clip, upscale it, say where the results are"
	@echo "make test        run all tests"
	@echo "make test-fast   run the quick tests alone (two minutes)"
	@echo "make examples    execute the notebooks under examples/"
	@echo "make export      make and verify SavedModel and TFLite files of megan_mobile (minutes)"
	@echo "make web         make the page that runs in a browser, and serve it (minutes)"
	@echo "make lint        check style and types"
	@echo "make docs        build the API reference into site/"
	@echo "make benchmarks  measure speed on this machine (minutes)"
	@echo "make clean       remove .venv and what demo and docs made"

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV) || { echo "make: '$(PYTHON) -m venv' failed; install your system's python3-venv package, or give another Python: make PYTHON=python3.12"; exit 1; }

# The package and what it runs on.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV) (about a minute, and 2 GB of disk) ..."
	@$(PIP) --editable '.[video]'
	@touch $@

# The same with what development needs.
$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV) (about a minute, and 2 GB of disk) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(VENV)/.installed
	@$(PIP) --editable '.[docs,video]'
	@touch $@

export: $(VENV)/.installed-dev
	$(BIN)/python -m export.convert --model megan_mobile --precision fp32,fp16,dynamic_int8,int8 \
	    --interface float32,uint8 --calibration demo --out exported --force

# The page is made once; `rm -r page` to have it made again.
web: $(VENV)/.installed-dev
	@test -e page || $(BIN)/python -m export.web --model megan_nano --out page
	@$(BIN)/python -m export.web --out page --serve

demo: $(VENV)/.installed
	@$(BIN)/megan demo -o demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses $(WORKERS)

test-fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses $(WORKERS) -m "not slow"

examples: $(VENV)/.installed-dev
	$(BIN)/python -m examples.run

lint: types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict

benchmarks: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.deformable_conv2d
	$(BIN)/python -m benchmarks.network_speed
	$(BIN)/python -m benchmarks.video.upscale_overhead

clean:
	rm -rf $(VENV) demo page site
