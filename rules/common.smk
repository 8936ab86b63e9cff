# In:    the configuration, its schema, the kernel tables.
# Out:   PLAN (each rule's own part of the configuration), SPECS (spec files), paths of results.
# Stale: nothing.

import functools
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import LocalSourceFile

# The library can only be imported from a known root, so execution/snakemake_hooks.py cannot find it.
if not isinstance(workflow.current_basedir, LocalSourceFile):
    raise WorkflowError(
        "nontrivial runs only from a checkout, because its programs and kernel tables are files"
        " beside the Snakefile. Clone the repository and set the module's snakefile to"
        " <checkout>/workflow/Snakefile."
    )

# Relative, so that nothing is stale after the folder is moved.
ROOT = Path(os.path.relpath(workflow.current_basedir.get_path_or_uri(secret_free=True))).parent
SCRIPTS = ROOT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS.resolve()))

from nontrivial.errors import UserError
from nontrivial.execution import snakemake_hooks
from nontrivial.planning.configuration import check_command_line, complete, read_schema
from nontrivial.planning.plan import Plan

# Jobs use the Python that runs Snakemake, whether its environment is activated or not. With
# --sdm conda, Snakemake puts the environment of the rule first.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))

snakemake_hooks.refuse_prefix(workflow)
snakemake_hooks.refuse_second_configuration(workflow, Path(config.get("results_dir", "results")))

try:
    schema = read_schema(ROOT / "config" / "schema.yaml")
    check_command_line(snakemake_hooks.command_line_keys(workflow), schema)
    PLAN = Plan(complete(config, schema), ROOT)
    SPECS = PLAN.specs()
except UserError as error:
    raise WorkflowError(str(error)) from None

RESULTS = PLAN.results
DATA = f"{RESULTS}/data/{{dataset}}"
NETWORK = f"{RESULTS}/networks/{{training}}/seed{{seed}}"
EXPERIMENT = PLAN.seed_folder("{experiment}", "{seed}")
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"

SPLITS = ["train", "val", "test"]
PREPARED = ["images.npy", "labels.npy", "samples.parquet"]


wildcard_constraints:
    dataset="|".join(sorted(PLAN.config["datasets"])),
    training="|".join(sorted(PLAN.config["trainings"])),
    experiment="|".join(sorted(PLAN.config["experiments"])),
    seed=r"\d+",
    batch=r"[^/]+",
    target=r"[^/]+",
