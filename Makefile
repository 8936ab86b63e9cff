# make quickstart   set up, run the whole experiment on two small data sets, build the report
# make test         set up, run the unit tests and those of the workflow
# make test-all     set up, run all tests, including faults, fuzzing and SLURM, on new random
#                   examples (SEED=number repeats those of an earlier run)
# make report       build the report of a finished run (CONFIG=config/config.yaml; ARGS="--config
#                   data_dir=..." if the run had such arguments)
# make benchmark    print the figures of docs/performance.md (DATA=folder of raw data)
# make lint         check style and types
# make slurm        set up the environment that submits to SLURM (profiles/README.md)
# make lock         resolve the dependencies in pyproject.toml again

PYTHON ?= python3
CONFIG ?= config/config.yaml
CORES ?= all
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed
INSTALLED_SLURM := .venv-slurm/.installed
# The tests of a file stay in one process. Files start in the order of folders, which puts the long
# ones first, so that the processes finish at about the same time.
PYTEST = $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
SEED = $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
# Expanded when a recipe runs, because the environment exists only then.
RESULTS = $(or $(shell $(BIN)/python -c 'import sys, yaml; \
	print(yaml.safe_load(open(sys.argv[1])).get("results_dir", ""))' "$(CONFIG)"),results)
# Print only those messages of Snakemake that concern the whole run.
FEW_LINES := --quiet host reason rules

.PHONY: quickstart test test-all report benchmark lint slurm lock

quickstart: $(INSTALLED)
	$(BIN)/snakemake --cores $(CORES) --resources gpu=1 $(FEW_LINES) \
		--configfile config/quickstart.yaml
	@$(MAKE) --no-print-directory report CONFIG=config/quickstart.yaml

report: $(INSTALLED)
	$(BIN)/snakemake --configfile "$(CONFIG)" $(ARGS) $(FEW_LINES) --report "$(RESULTS)/report.html"
	@echo "The report is $(RESULTS)/report.html: open it in a browser."

# DATA=folder adds two benchmarks: preparing CIFAR-10 and hippocampus from that folder, and running
# the jobs of a network through Snakemake.
benchmark: $(INSTALLED)
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/replay.py --network resnet34 --precision fp32 bf16 --rounds 3 --captum
	$(BIN)/python benchmarks/replay.py --network resnet34-cifar pspnet_resnet34 --samples 32 \
		--precision fp32 bf16 --rounds 3
	$(BIN)/python benchmarks/train.py --network resnet34 --steps 20
	$(BIN)/python benchmarks/train.py --network pspnet_resnet34 --steps 8
	$(BIN)/python benchmarks/busy.py
	$(BIN)/python benchmarks/larger_than_memory.py --gib 6
	$(BIN)/python benchmarks/quickstart.py
	$(BIN)/python benchmarks/dag.py --targets 100 1000 10000
	$(if $(DATA),$(BIN)/python benchmarks/prepare.py --data-dir "$(DATA)")
	$(if $(DATA),$(BIN)/python benchmarks/batches.py --data-dir "$(DATA)")

test: $(INSTALLED)
	$(PYTEST) tests/dag tests/integration tests/staleness tests/unit

test-all: $(INSTALLED)
	$(PYTEST) tests --hypothesis-profile=random --hypothesis-seed=$(SEED)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile rules
	$(BIN)/mypy

slurm: $(INSTALLED_SLURM)

$(INSTALLED): requirements.lock
$(INSTALLED_SLURM): requirements-slurm.lock
$(INSTALLED) $(INSTALLED_SLURM):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11. Run make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "error: $(PYTHON) has no venv module. On Debian, run apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Requires uv. The lock files name no package index, so they work with any index. The second one
# pins the releases of the first, so that cluster jobs use the releases that were tested.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate -o requirements.lock
	uv pip compile pyproject.toml --extra slurm --constraint requirements.lock --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate -o requirements-slurm.lock
