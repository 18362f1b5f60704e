# Every target in one to three lines; what takes more is a script.
PYTHON ?=
PORT ?= 8080
DATA ?= data
ARGS ?=
FUZZ_SECONDS ?= 60
TORTURE_RUNS ?= 200
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
export PYTHONUTF8 := 1

.DEFAULT_GOAL := help
.PHONY: help venv demo run test check bench fuzz torture assurance sbom lock vendor gazetteer wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "  PYTHON=/path/to/python3 chooses the Python (3.11 or later), PORT= the port, ARGS= goes to pytest"

demo: .venv/.runtime ## a hub that plays a storm, on 127.0.0.1:8080 (PORT= changes it); Ctrl-C ends it
	@$(BIN)/lalert demo --port $(PORT)

run: .venv/.runtime ## a plain hub on 127.0.0.1:8080 (PORT=) that keeps its data in ./data (DATA=)
	@$(BIN)/lalert serve --port $(PORT) --data $(DATA)

test: .venv/.dev ## install what the tests need and run all but the long ones
	@scripts/setup_tests.sh
	$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

check: .venv/.dev ## lint, format, types, layers, change fragments, vendored files, the tree
	$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/changelog.py check && $(BIN)/python scripts/vendor_frontend.py --check && $(BIN)/python scripts/check_tree.py

bench: .venv/.dev ## measure; writes nothing, prints figures
	@for script in bench/[a-z]*.py bench/*/__main__.py; do \
		module=$$(echo $$script | sed 's|/__main__||; s|\.py$$||; s|/|.|g'); echo "== $$module"; $(BIN)/python -m $$module || exit 1; done

fuzz: .venv/.dev ## look for a document that breaks the reader, for 60 s (FUZZ_SECONDS=); installs atheris where there is one
	@$(INSTALL) --require-hashes --no-build-isolation -r requirements/fuzz.txt || echo "atheris does not install for this Python and system" >&2
	$(BIN)/python -m fuzz.examine $(FUZZ_SECONDS)

torture: .venv/.dev ## kill, cut off and starve nodes under load, and count what was lost; about half an hour (TORTURE_RUNS=200)
	@scripts/setup_tests.sh
	$(BIN)/python -m tests.system.torture $(TORTURE_RUNS)

assurance: ## every promise with the test that proves it (comes with #10)
	@echo "make assurance is not built yet: it comes with issue #10, tenancy and the incidents that must not happen again" >&2; exit 2

sbom: .venv/.runtime ## write dist/sbom.cdx.json (CycloneDX)
	$(BIN)/python scripts/sbom.py

lock: .venv/.made ## pin all packages anew in requirements/*.txt (needs python3.11, 3.12 and 3.13; ARGS=--upgrade for the newest)
	$(BIN)/python scripts/lock.py $(ARGS)

vendor: .venv/.made ## fetch the front-end packages anew and check them (needs npm)
	$(BIN)/python scripts/vendor_frontend.py

gazetteer: .venv/.runtime ## make the table of municipalities anew from its published sources
	$(BIN)/python scripts/build_gazetteer.py

wheel: .venv/.dev ## build dist/*.whl and dist/*.tar.gz
	$(BIN)/python -m build --no-isolation --outdir dist

venv: .venv/.dev ## make .venv with all that development needs

clean: ## remove what the other targets made, except ./data
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: the second time nothing is installed and no network is needed. Build tools come first and hashed, so that neither feedgen (source
# only) nor lalert itself is built with anything unpinned.
.venv/.made: scripts/setup_venv.sh
	@scripts/setup_venv.sh .venv $(PYTHON) && touch $@

.venv/.runtime: .venv/.made requirements/build.txt requirements/runtime.txt pyproject.toml lalert/__init__.py
	$(INSTALL) --require-hashes -r requirements/build.txt
	$(INSTALL) --require-hashes --no-build-isolation -r requirements/runtime.txt
	$(INSTALL) --no-deps --no-build-isolation --editable . && touch $@

.venv/.dev: .venv/.runtime requirements/dev.txt
	$(INSTALL) --require-hashes --no-build-isolation -r requirements/dev.txt && touch $@
