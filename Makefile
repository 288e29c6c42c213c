# make demo · make test · make check · make wheel-test · make rooms · make bench · make gpu-pack
# All targets make what they need: the virtual environment is .venv, built once from pyproject.toml.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

# Parity cases and real images, where they lie beside the checkout.
ifneq ($(wildcard ../shared/golden),)
export RSVLM_GOLDEN ?= $(abspath ../shared/golden)
endif
ifneq ($(wildcard ../shared/data),)
export RSVLM_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo test test-slow wheel-test rooms check format bench gpu-pack clean

$(VENV)/.installed: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(VENV)/.installed
	rm -rf runs/demo  # a folder holds one run
	$(PY) train.py experiment=clip_tiny_scenes trainer=cpu logger=csv hydra.run.dir=runs/demo/train
	$(PY) eval.py experiment=eval_zeroshot_scenes model=clip_tiny trainer=cpu logger=csv \
		ckpt=runs/demo/train/best.ckpt hydra.run.dir=runs/demo/zeroshot
	$(PY) -m rsvlm report runs/demo/train runs/demo/zeroshot --out runs/demo/report.html

test: $(VENV)/.installed
	$(PY) -m pytest

test-slow: $(VENV)/.installed
	$(PY) -m pytest -m 'slow and not gpu'

# Builds the wheel, installs it outside of the clone and types what a new user would.
wheel-test: $(VENV)/.installed
	$(PY) .ci/wheel.py

# Draws the imports again, for CONTRIBUTING.md.
rooms: $(VENV)/.installed
	$(PY) docs/rooms.py

check: $(VENV)/.installed
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(VENV)/.installed
	$(PY) benchmarks/contrastive.py --arch ViT-B-32 --batch 32 --device cpu
	$(PY) benchmarks/selo.py

gpu-pack: $(VENV)/.installed
	$(PY) benchmarks/gpu_pack.py --out .gpu

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache .mypy_cache
