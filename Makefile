# The README's commands. `make demo` and `make test` set everything up themselves.
PYTHON ?= python3
VENV ?= .venv
# A pip index that holds CPU wheels of torch, where the platform's default build is too large:
# make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
DEMO_ARGS ?=
# Markers of the tests that `make test` runs; CI gives others.
TEST_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export HF_HUB_OFFLINE := 1

.PHONY: demo test check format clean weights

# A demo that was interrupted goes on; one that is finished shows its result again.
demo: $(STAMP)
	$(BIN)/resp-agent loop --config quickstart $(DEMO_ARGS) $(if $(wildcard runs/quickstart/config.yaml),--resume,)

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadfile $(TEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Make the shipped tiny weights again, on their encoder and units (about two hours on 2 cores; needs RESP_DATA).
weights: $(STAMP)
	$(BIN)/resp-agent train pretrain --config tiny --out configs/weights/tiny -o beats.weights=tiny

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX),) torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
