# Everything a newcomer needs: `make demo` and `make test`. Both make .venv and install.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo export web test lint format benchmarks clean help

help:
	@echo "make demo        render a small clip, upscale it, say where the results are"
	@echo "make test        run all tests"
	@echo "make export      make and verify SavedModel and TFLite files of megan_edge (minutes)"
	@echo "make web         make the page that runs in a browser, and serve it (minutes)"
	@echo "make lint        check style"
	@echo "make benchmarks  measure speed on this machine (minutes)"
	@echo "make clean       remove .venv and what demo made"

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV) || { echo "make: '$(PYTHON) -m venv' failed; install your system's python3-venv package, or give another Python: make PYTHON=python3.12"; exit 1; }

# The package and what it runs on.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV) (about a minute, and 2 GB of disk) ..."
	@$(PIP) --editable .
	@touch $@

# The same with what development needs.
$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV) (about a minute, and 2 GB of disk) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

export: $(VENV)/.installed-dev
	$(BIN)/python -m export.convert --model megan_edge --precision fp32,fp16,dynamic_int8,int8 \
	    --interface float32,uint8 --calibration demo --out exported --force

# The page is made once; `rm -r site` to have it made again.
web: $(VENV)/.installed-dev
	@test -e site || $(BIN)/python -m export.web --model megan_nano --out site
	@$(BIN)/python -m export.web --out site --serve

demo: $(VENV)/.installed
	@$(BIN)/megan demo -o demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses $(WORKERS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.deformable_conv2d
	$(BIN)/python -m benchmarks.network_speed
	$(BIN)/python -m benchmarks.upscale_overhead

clean:
	rm -rf $(VENV) demo
