# Everything needed from a fresh machine with git, make and Python 3.11 or newer: `make serve` or `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Python compiles what is imported when it is first imported; pip would compile six times as many files.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
unexport PYTHONDONTWRITEBYTECODE
PIP_FAILED := echo "The installation failed; pip says above why. It needs the network (pip reads HTTPS_PROXY and PIP_INDEX_URL) and some" \
	"GB of disk in $(VENV) and TMPDIR. Mend that and give the same command again." >&2; exit 1
# Debian's packages, where they may be installed. Only one apt-get runs at a time, and it reads new lists only where it must.
APT = [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && export DEBIAN_FRONTEND=noninteractive && flock $(VENV) sh -c \
	'apt-get install -y -qq "$$@" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq "$$@" >/dev/null; }' apt
NODE_CLIENTS := tests/clients/node/node_modules
NEXT_NODE_CLIENTS := tests/clients/node-22/node_modules
BROWSER := tests/browser/node_modules
# What the tests need beside .venv; pip keeps one core busy meanwhile.
FOR_TESTS := $(addsuffix /.installed,$(NODE_CLIENTS) $(NEXT_NODE_CLIENTS) $(BROWSER)) $(addprefix $(VENV)/,.exiftool .machines .chromium)
# Options for the command behind the verb, as in: make serve ARGS="--port 9000"
ARGS ?=
# How many requests `make fuzz` makes up for each operation of the API.
EXAMPLES ?= 500
# How long `make soak` lasts.
MINUTES ?= 20
# One more than two cores can keep busy: much of the tests' time is waiting.
TEST_PROCESSES ?= 3
# Two OpenMP threads beside another busy process make a step many times slower; one thread each is steady.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help install serve check test lint format types test-gpu bench bench-gpu fuzz soak chaos reference docs train-demo clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed-dev ## Install everything for development into .venv

serve: $(VENV)/.installed-serve ## Install what is missing, then start the server: make serve ARGS="--port 9000"
	@exec $(BIN)/flux-endpoint serve $(ARGS)

test: ## Install what is missing, then run every check: style, types, floors, tests
	@$(MAKE) -s -j 2 lint types $(FOR_TESTS)
	$(BIN)/lint-imports
	$(ONE_THREAD) $(BIN)/python -m pytest -m "not gpu" -n $(TEST_PROCESSES) --dist loadgroup $(ARGS)

check: lint types ## Run what takes less than a minute: style, types, floors, unit tests
	$(BIN)/lint-imports
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 tests/unit $(ARGS)

lint: $(VENV)/.installed-dev ## Check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/.installed-dev ## Repair style and formatting where a tool can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(VENV)/.installed-dev ## Check types
	$(BIN)/mypy

test-gpu: $(VENV)/.installed-dev ## Run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(ARGS)

bench: $(VENV)/.installed-dev ## Measure what README and docs claim, see benchmarks/README.md
	@for script in $$(grep -l __main__ benchmarks/*.py | grep -v engine_gpu); do \
		echo "== $$script" && $(BIN)/python -m benchmarks.$$(basename $$script .py) $(ARGS) || exit 1; done

bench-gpu: $(VENV)/.installed-dev ## Build, check and time what makes a GPU faster, in under 9 minutes
	$(BIN)/python -m benchmarks.engine_gpu $(ARGS)

fuzz: $(VENV)/.installed-dev ## Attack a server with generated requests, and the loader with damaged files: make fuzz EXAMPLES=1000
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/system/test_fuzz.py tests/engine/test_damage.py --timeout 0 -s $(ARGS)

soak: $(VENV)/.installed-dev $(NODE_CLIENTS)/.installed $(VENV)/.faketime ## Every kind of client and of trouble at once, then an audit: make soak MINUTES=2
	$(ONE_THREAD) $(BIN)/python -m tests.soak --minutes $(MINUTES) $(ARGS)

chaos: $(VENV)/.installed-dev $(VENV)/.faketime ## Everything breaks while 1,000 pictures are ordered, then an audit: make chaos ARGS="--seed 7 --jobs 300"
	$(ONE_THREAD) $(BIN)/python -m tests.soak.chaos --jobs 1000 --ray $(ARGS)

reference: $(VENV)/.installed-dev ## Write the generated pages of docs/reference
	$(BIN)/python docs/generate.py

docs: $(VENV)/.installed-dev ## Build the docs site into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

train-demo: $(VENV)/.installed-dev ## Make the embedded model from nothing, see training/README.md
	$(BIN)/python -m training $(ARGS)

clean: ## Remove what the verbs above have made; data/ stays
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was installed from; a changed pyproject.toml or constraints.txt installs again.
$(VENV)/.installed-serve: pyproject.toml constraints.txt | $(VENV)/.made
	@{ [ $(VENV)/.installed-dev -nt pyproject.toml ] && [ $(VENV)/.installed-dev -nt constraints.txt ]; } || { \
		echo "Installing flux-endpoint into $(VENV); the first time takes some minutes." && \
		{ $(PIP) -e ".[engine]" || { $(PIP_FAILED); }; }; }
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing flux-endpoint and its tools into $(VENV); the first time takes some minutes."
	@$(PIP) -e ".[engine,postgres,s3,ray,otel,c2pa,dev]" || { $(PIP_FAILED); }
	@touch $@

# The official JavaScript clients, and their next major versions, which run on the Node that comes with the tools.
tests/clients/%/node_modules/.installed: tests/clients/%/package-lock.json | $(VENV)/.node
	@cd $(<D) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# What the tests of the playground need: an accessibility checker, and Chromium. It is the system's, or Debian's package
# where it may be installed, or else Playwright's own download.
$(BROWSER)/.installed: tests/browser/package-lock.json | $(VENV)/.node
	@cd tests/browser && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(VENV)/.chromium: | $(VENV)/.installed-dev
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { $(APT) chromium; } || \
		$(BIN)/playwright install chromium || { \
		echo "The tests of the playground need Chromium; install it and try again." >&2; exit 1; }
	@touch $@

# What other programs find in our pictures; the system's, or Debian's package where it may be installed.
$(VENV)/.exiftool: | $(VENV)/.made
	@exiftool -ver >/dev/null 2>&1 || { $(APT) libimage-exiftool-perl; } || { \
		echo "The tests of pictures need exiftool; install it and try again." >&2; exit 1; }
	@touch $@

# What the tests of several machines need: a pooler of PostgreSQL, and clocks that are wrong.
$(VENV)/.machines: | $(VENV)/.made
	@{ command -v pgbouncer && command -v faketime; } >/dev/null || { $(APT) pgbouncer faketime; } || { \
		echo "The tests of several machines need PgBouncer and libfaketime; install them and try again." >&2; exit 1; }
	@touch $@

# Node is the system's, or Debian's package where it may be installed.
$(VENV)/.node: | $(VENV)/.made
	@node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null || { $(APT) nodejs npm; } || { \
		echo "The tests of clients and playground need Node 18 or newer with npm; install it and try again." >&2; exit 1; }
	@touch $@

# Sets the clock of one process: the system's, or Debian's package where it may be installed.
$(VENV)/.faketime: | $(VENV)/.made
	@ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || { $(APT) faketime; } || { \
		echo "The soak moves a clock with libfaketime; install it and try again." >&2; exit 1; }
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed as $(PYTHON); name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) lacks its venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@
