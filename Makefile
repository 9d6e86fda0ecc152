# Everything starts here: `make demo`, `make test`, `make sim`, `make bitstream BOARD=ecp5`.
# The first call makes a virtual environment in .venv; later ones reuse it.

PYTHON ?= python3
VENV ?= .venv
PY = $(VENV)/bin/python
READY = $(VENV)/.installed
JOBS ?= 2

# make sim
MODEL ?=
DATA ?=
IMAGES ?= 16
MEMORY ?= ideal
TRACE ?=
LANES ?= 8x16

# make bench
ONLY ?=

# make bitstream
BOARD ?= ecp5
CLOCK ?=
SEED ?=
JSON ?=

# torch's threads must not spin while the other tests run
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help demo test test-all lint sim bench bitstream install clean
.DELETE_ON_ERROR:

help:
	@echo "make demo                        the whole path on the bundled network, with a report"
	@echo "make test                        linters, type checks, tests (test-all: the long ones too)"
	@echo "make sim                         cocotb benches of the accelerator"
	@echo "make sim MODEL=fixed.onnx DATA=images.npz IMAGES=16 [MEMORY=ideal|stalling|ulx3s|random|all]"
	@echo "                                 [TRACE=1: the first image's waveforms] [LANES=8x16]   a whole network in RTL"
	@echo "make bench [ONLY=L1,N2]          cycles of the benchmark in RTL, beside bars and peers"
	@echo "                                 [MEMORY=ideal|stalling|ulx3s|all] [CLOCK=MHz]; plots in build/bench"
	@echo "make bitstream BOARD=ecp5        a bitstream for the ULX3S-85F (BOARD=list: all boards)"
	@echo "                                 [CLOCK=MHz] [SEED=n]; BOARD=list JSON=1: for programs"
	@echo "make clean                       delete build/ (not the virtual environment)"

install: $(READY)

$(READY): pyproject.toml
	@echo "Installing into $(VENV); the first time this takes a few minutes ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@$(PYTHON) -m venv $(VENV)
	@PYTHONWARNINGS=ignore $(PY) -m pip install --quiet --disable-pip-version-check -e '.[all]'
	@touch $@
	@echo "Installed."

demo: $(READY)
	@$(PY) -m sim demo --output build/demo

lint: $(READY)
	@echo "ruff ..." && $(PY) -m ruff check .
	@echo "pyright ..." && $(VENV)/bin/pyright --pythonpath $(PY)

# simulators that are built faster: these tests' runs are short
test: export POINTSHIFT_OPTIMISATION ?= -O1 -march=native
test: lint
	$(PY) -m pytest -n $(JOBS) -m "not slow"

test-all: lint
	$(PY) -m pytest -n $(JOBS)

sim: $(READY)
ifeq ($(MODEL),)
	$(PY) -m pytest -n $(JOBS) -k cocotb tests
else ifeq ($(DATA),)
	@echo "error: make sim MODEL=$(MODEL) needs images, too: DATA=images.npz (or a folder)" >&2; exit 2
else
	@$(PY) -m sim run "$(MODEL)" --data "$(DATA)" --images $(IMAGES) --memory $(MEMORY) --lanes $(LANES) \
	    $(if $(TRACE),--trace)
endif

bench: $(READY)
	@$(PY) -m bench --layers --plots build/bench $(if $(ONLY),--only $(ONLY)) $(if $(CLOCK),--clock $(CLOCK)) \
	    $(if $(findstring command,$(origin MEMORY)),--memory $(MEMORY))

bitstream: $(READY)
ifeq ($(BOARD),list)
	@$(PY) -m boards list $(if $(JSON),--json)
else
	@$(PY) -m boards build $(BOARD) $(if $(CLOCK),--clock $(CLOCK)) $(if $(SEED),--seed $(SEED))
endif

clean:
	rm -rf build
