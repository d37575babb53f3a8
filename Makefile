# On a fresh machine with Python 3.11 to 3.13 and make: `make demo`, `make test`.
# Every target installs what it needs into .venv when that is missing or outdated.

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/installed.stamp
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/installed.stamp
JAX := .venv-jax
JAX_STAMP := $(JAX)/installed.stamp

# Prints the first fitting Python; a venv needs ensurepip, which Debian splits off.
FIND_PYTHON = for name in python3 python3.13 python3.12 python3.11 python; do \
	"$$name" -c 'import ensurepip, sys, venv; \
	sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { command -v "$$name"; break; }; done
NO_PYTHON = needs Python 3.11 to 3.13 with its venv module (Debian: apt install \
	python3-venv), found none on PATH

.PHONY: help install demo test test-all lint wheel build-file peers jax test-jax \
	clean

help:
	@echo 'make demo        names two people in a clip with the shipped models, under a minute'
	@echo 'make test        the default tests, under 15 minutes on two cores'
	@echo 'make test-all    also those marked slow or peer'
	@echo 'make lint        ruff'
	@echo 'make wheel       dist/*.whl, with the shipped models inside'
	@echo 'make build-file  rewrites the lists of BUILD'
	@echo 'make peers       .venv-peers, with OpenCV 4, dlib, PyTorch, KerasHub for benchmarks/'
	@echo 'make jax         .venv-jax, with JAX and without TensorFlow'
	@echo 'make test-jax    the tests of training on JAX, in .venv-jax'
	@echo 'make install     only .venv'

install: $(STAMP)

$(STAMP): pyproject.toml
	@python=$$($(FIND_PYTHON)); \
	if [ ! -x $(PYTHON) ]; then \
		[ -n "$$python" ] || { echo 'make: $(NO_PYTHON)' >&2; exit 1; }; \
		"$$python" -m venv --clear $(VENV); \
	fi
	@echo 'Installing into $(VENV): TensorFlow is large, this takes some minutes.'
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[dev,train,quantize]'
	@# The GUI wheel of OpenCV loads only where these two libraries are. It goes on
	@# top of the headless one, in the same version, so that both stay whole.
	@if $(PYTHON) -c 'import ctypes; ctypes.CDLL("libGL.so.1"); \
	ctypes.CDLL("libgthread-2.0.so.0")' 2>/dev/null; then \
		version=$$($(PYTHON) -c 'from importlib.metadata import version; \
		print(version("opencv-python-headless"))'); \
		$(PYTHON) -m pip install --quiet --disable-pip-version-check \
			"opencv-python==$$version" \
		|| echo "make: no opencv-python $$version here, there will be no windows"; \
	else \
		echo 'make: libGL.so.1 or libgthread-2.0.so.0 does not load, no windows'; \
	fi
	@touch $@

demo: $(STAMP)
	$(PYTHON) apps/demo

# Two at least, since much of a test is one thread's; each takes some gigabytes.
test: $(STAMP)
	$(PYTHON) -m pytest -q -n auto --maxprocesses 4 --dist worksteal

test-all: $(STAMP)
	$(PYTHON) -m pytest -q -m 'slow or peer or not slow'

lint: $(STAMP)
	$(PYTHON) -m ruff check .

wheel: $(STAMP)
	rm -rf build
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls -l dist/*.whl

build-file: $(STAMP)
	$(PYTHON) tests/build_test.py --write

peers: $(PEERS_STAMP)

$(PEERS_STAMP): pyproject.toml
	@python=$$($(FIND_PYTHON)); \
	[ -n "$$python" ] || { echo 'make: $(NO_PYTHON)' >&2; exit 1; }; \
	"$$python" -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check \
		-e '.[peers,hub,coco,dev]'
	@touch $@

jax: $(JAX_STAMP)

# What pyproject.toml names, without TensorFlow and LiteRT: nothing here needs them.
$(JAX_STAMP): pyproject.toml
	@python=$$($(FIND_PYTHON)); \
	[ -n "$$python" ] || { echo 'make: $(NO_PYTHON)' >&2; exit 1; }; \
	"$$python" -m venv --clear $(JAX)
	$(JAX)/bin/python -c 'import tomllib; names = tomllib.load(open("pyproject.toml", \
	"rb"))["project"]["dependencies"]; print(*(n for n in names if not n.startswith( \
	("tensorflow", "ai-edge"))), "jax", "grain", "pytest>=8", sep="\n")' >$(JAX)/names
	$(JAX)/bin/python -m pip install --quiet --disable-pip-version-check -r $(JAX)/names
	@touch $@

test-jax: $(JAX_STAMP)
	KERAS_BACKEND=jax $(JAX)/bin/python -m pytest -q -m 'slow or not slow' \
		tests/training/jax_test.py tests/conformance/jax_test.py \
		tests/conformance/repeat_test.py

clean:
	rm -rf build dist demo_output .pytest_cache .ruff_cache
