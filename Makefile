# Needs python3 (3.11 or newer) and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# sources of the optional kernels: installing compiles them, if there is a C compiler
NATIVE := hatch_build.py $(wildcard app/hugging_llama/engine/native/src/*)
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help serve test test-all soak audit check docs format clean
# of `make soak`: MINUTES=20 CLIENTS=200, and whether the counts of docs/reliability.md follow (COUNTS=no: they don't)
MINUTES ?= 20
CLIENTS ?= 200
COUNTS ?= yes
# of `make test`: so many processes share the test files; much of a test is waiting for servers
JOBS ?= 2

help:
	@echo "make serve     install into $(VENV) and serve on 127.0.0.1:11434 with the bundled demo model"
	@echo "make test      install and run all quick tests, in two processes (JOBS=); what fails there runs again, alone"
	@echo "make test-all  the same with the slow ones"
	@echo "make soak      20 minutes of 200 clients while processes are killed (MINUTES=, CLIENTS=), then all faults of"
	@echo "               docs/reliability.md as often as it says (COUNTS=no leaves them out); tables, status 1 on a breach"
	@echo "make check     lint, format, types, import contracts"
	@echo "make docs      build the pages of docs/ into build/docs, with strict checks of links"
	@echo "make audit     ask the public databases for advisories about what constraints.txt pins"
	@echo "make format    let ruff rewrite the sources"
	@echo "make clean     remove $(VENV) and caches"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml constraints.txt $(NATIVE) | $(VENV)/bin/python
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(NATIVE) tests/clients/js/package.json tests/clients/instructor.txt | $(VENV)/bin/python
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps -r tests/clients/instructor.txt
	@if command -v npm >/dev/null; then cd tests/clients/js && npm install --silent --no-audit --no-fund --no-package-lock; \
	else echo "npm is not installed: the tests with the JavaScript clients will be skipped"; fi
	@touch $@

serve: $(VENV)/.serve
	$(BIN)/hugging-llama serve

# A test that failed beside others runs once more, alone: a busy machine is no reason for a red build, and one that fails
# again is. What failed at first stays in the output.
test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile || { \
	  test $$? = 1 && echo "What failed runs once more, alone:" && \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none --maxfail 1; }

test-all: $(VENV)/.dev
	HYPOTHESIS_PROFILE=random $(BIN)/python -m pytest -m "not gpu"

soak: $(VENV)/.dev
	$(BIN)/python -m tests.soak --minutes $(MINUTES) --clients $(CLIENTS)
	@test $(COUNTS) = no || BAR_COUNTS=whole $(BIN)/python -m pytest -m "not gpu" $$($(BIN)/python -m tests.bar)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# strict: pip-audit takes a package that its database does not know, or that it can't ask for, for one without advisories
audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

docs: | $(VENV)/bin/python
	$(PIP) mkdocs-material
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/docs/index.html is the first page"

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-audit build/docs app/hugging_llama/engine/native/kernels.so .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis tests/clients/js/node_modules
