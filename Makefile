# `make study` and `make test` need Python 3.11+, make and git, and set up everything else in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEVELOPMENT_DATA := $(wildcard ../shared/data)
ifneq ($(DEVELOPMENT_DATA),)
export FLIPSEARCH_DATA ?= $(abspath $(DEVELOPMENT_DATA))
endif
STUDY := gb1_three_vs_rest
# Enough for a first look on two CPU cores; without them the defaults apply (100 epochs).
STUDY_OVERRIDES := trainer.max_epochs=30 trainer.patience=10

.PHONY: study test test-all test-system check fuzz benchmark ray clean

study: $(VENV)/installed
	@if timeout 40 $(BIN)/python run_study.py data fetch $(STUDY) --timeout 30; then \
	    $(BIN)/python run_study.py --task $(STUDY) --model cnn --n-trials 20 $(STUDY_OVERRIDES); \
	else \
	    echo; \
	    echo "**************************************************************************************"; \
	    echo "*  FLIP's GB1 file is neither on this machine nor downloadable within 30 s.          *"; \
	    echo "*  Searching the built-in SYNTHETIC landscape instead: its numbers mean nothing      *"; \
	    echo "*  outside of flipsearch. The line above says where the file may be put.             *"; \
	    echo "**************************************************************************************"; \
	    echo; \
	    $(BIN)/python run_study.py --task synthetic_two_vs_rest --model cnn --n-trials 20 $(STUDY_OVERRIDES); \
	fi

# Many tests wait for other processes, so three at a time fill two cores; a file stays with one worker. The slowest ten
# are told at the end: a file that takes long belongs into LONGEST of tests/conftest.py.
TEST_WORKERS := 3

PYTEST := $(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --durations=10

# What takes no fleet, no outage, no browser and no whole searches one after another; of each kind one all the same.
test: $(VENV)/installed
	$(PYTEST) -m "not system and not slow or smoke"

test-all: $(VENV)/installed
	$(PYTEST)

# What `test` leaves out: the fault matrix, faults at random moments, hostile rows and files, fleets, browsers, and
# what takes seconds beside quicker tests of the same code.
test-system: $(VENV)/installed
	$(PYTEST) -m "(system or slow) and not smoke"

# Ten times as many hostile rows, experiments and tables as `test-system` makes up.
fuzz: $(VENV)/installed
	$(PYTEST) --hypothesis-profile=fuzz tests/system/test_hostile_database.py tests/system/test_foreign_experiments.py \
	    tests/system/test_fuzzed_tables.py

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(VENV)/installed
	$(BIN)/python tests/benchmarks/bench_training.py
	$(BIN)/python tests/benchmarks/bench_trial_overhead.py
	$(BIN)/python tests/benchmarks/bench_reader.py

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "flipsearch needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[figures,test]'
	touch $@

.venv: $(VENV)/installed

# The extra of `--engine ray`, 250 MB, whose tests are skipped without it.
$(VENV)/with-ray: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[ray]'
	touch $@

ray: $(VENV)/with-ray

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache
