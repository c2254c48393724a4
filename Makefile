# make demo   train, evaluate and look, on generated scenes: no download, about ten minutes on two cores
# make test   lint, types, architecture rules, tests
# make test-docs      runs every command of the pages: minutes, not part of make test, which only composes them
# make test-package   builds the wheel, and loads the models from a bare clone
# make test-slow      all tests that make test leaves out, the two above included
# make test-fuzz      ten thousand damaged files: inputs, and what commands read back; minutes
# make test-gpu PYTHON=python3   what a GPU does and how fast, in five minutes; installs nothing, skips without a GPU
# make setup  only make .venv
# make benchmark   every ratio and growth that docs/benchmark.md reports: twenty minutes, on a quiet machine
# make benchmark-table4 CAMVID=FOLDER   trains and measures the networks of Table 4 in docs/paper.md: an hour

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: setup demo test lint types unit test-docs test-package test-slow test-fuzz test-gpu benchmark benchmark-table4 clean
.DELETE_ON_ERROR:

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml .ci/check_setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "pocketvision needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	@echo "making $(VENV) and installing (torch is large: a few minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@$(BIN)/python .ci/check_setup.py
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(PIP) -e '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/pocketvision train experiment=demo_detection
	@$(BIN)/pocketvision train experiment=demo_segmentation
	@$(BIN)/pocketvision evaluate run=runs/demo_detection pictures=8 report=true
	@$(BIN)/pocketvision evaluate run=runs/demo_segmentation pictures=8 report=true
	@echo "look at runs/demo_detection/report/report.html and runs/demo_segmentation/report/report.html, and pictures/ beside report/"

test: lint types unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	@mkdir -p build/typing && ln -sfn ../.. build/typing/pocketvision
	$(BIN)/pyright

# worksteal: a process gets whole files, so that what the tests of a file share is made once.
unit: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=15

test-docs: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "" tests/test_docs.py

test-package: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "" tests/test_packaging.py tests/test_hubconf.py

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m by_hand --durations=15

test-fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "" -k 5000 tests/datasets/test_mutations.py tests/tools/test_damaged.py

test-gpu:
	@$(PYTHON) tests/gpu/check.py

benchmark: $(VENV)/.installed-dev
	$(BIN)/python tests/benchmarks/startup.py
	$(BIN)/python tests/benchmarks/peers.py output=build/benchmark/peers
	for axis in detections classes batch; do \
	  $(BIN)/python tests/benchmarks/sweeps.py $$axis model=ssdlite_torchvision peer=torchvision optimize=true \
	    output=build/benchmark/$$axis || exit; done
	$(BIN)/python tests/benchmarks/sweeps.py pixels model=lraspp_torchvision peer=torchvision optimize=true \
	  data.resize=none data.eval_size=null "photo_size=[512,1024]" output=build/benchmark/pixels --values 0.25 1 4

benchmark-table4: $(VENV)/.installed-dev
	@test -d '$(CAMVID)/train' || { echo "CAMVID='$(CAMVID)' is no prepared CamVid: pocketvision prepare camvid"; exit 1; }
	$(BIN)/python tests/benchmarks/table4.py '$(CAMVID)' build/benchmark/table4 conf/paper_table4.json

clean:
	rm -rf $(VENV) build dist *.egg-info
