# In:  the configuration, its schema, the kernel tables.
# Out: PLAN (each rule's own part of the configuration), code() (a program's fingerprint).
# Stale: nothing here; what these functions return makes the jobs of the other files stale.

import functools
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Relative, so that a moved folder makes nothing stale.
ROOT = Path(os.path.relpath(workflow.basedir))
SCRIPTS = ROOT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS.resolve()))

from nontrivial.execution import snakemake_hooks
from nontrivial.formats.canonical import canonical, file_digest
from nontrivial.planning.configuration import complete, read_schema
from nontrivial.errors import UserError
from nontrivial.planning.fingerprint import fingerprint, module_file
from nontrivial.planning.plan import Plan
from nontrivial.data.manifest import source_identity

# Jobs run the Python that runs Snakemake, activated or not; --sdm conda puts its own first.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

try:
    PLAN = Plan(complete(config, read_schema(ROOT / "config" / "schema.yaml")), ROOT)
    SPECS = PLAN.specs()
except UserError as error:
    raise WorkflowError(str(error)) from None

RESULTS = PLAN.results
DATA = f"{RESULTS}/data/{{dataset}}"
NETWORK = f"{RESULTS}/networks/{{training}}/seed{{seed}}"
EXPERIMENT = f"{RESULTS}/{{experiment}}/seed{{seed}}/zero"
LOGS = f"{RESULTS}/logs"

SPLITS = ["train", "val", "test"]
PREPARED = ["images.npy", "labels.npy", "samples.parquet"]


@functools.cache
def code(program, factory=None):
    """Return the fingerprint of a program in workflow/scripts, and of a user's own network."""
    package = factory.partition(":")[0].split(".") if factory else []
    own = [module_file(".".join(package[: n + 1]), [Path.cwd()]) for n in range(len(package))]
    try:
        ours = fingerprint(SCRIPTS / program, [SCRIPTS])
        return " ".join([ours, *(fingerprint(file, [Path.cwd()]) for file in own if file)])
    except UserError as error:
        raise WorkflowError(str(error)) from None


def data_of(wildcards):
    """Return the folder of the prepared data that a job's training or experiment uses."""
    if "experiment" in wildcards.keys():
        return f"{RESULTS}/data/{PLAN.dataset(wildcards.experiment)}"
    return f"{RESULTS}/data/{PLAN.config['trainings'][wildcards.training]['dataset']}"


def description(wildcards):
    """Return the description of a job's prepared data, which holds the digests of its arrays."""
    return f"{data_of(wildcards)}/dataset.json"


def prepared(*splits):
    """Return an input function: the arrays and samples of some splits, or of the judged one."""

    def paths(wildcards):
        chosen = splits or [PLAN.config["experiments"][wildcards.experiment]["split"]]
        return [f"{data_of(wildcards)}/{split}/{name}" for split in chosen for name in PREPARED]

    return paths


def network_file(name):
    """Return an input function: a file of the trained network of a job's experiment."""
    return lambda w: f"{RESULTS}/networks/{PLAN.training(w.experiment)}/seed{w.seed}/{name}"


def names(section):
    """Return a pattern that matches the names of one section of the configuration."""
    return "|".join(sorted(PLAN.config[section]))


wildcard_constraints:
    dataset=names("datasets"),
    training=names("trainings"),
    experiment=names("experiments"),
    seed=r"\d+",
    batch=r"[^/]+",
    target=r"[^/]+",


# Jobs on several GPUs of one machine share its cores.
GPUS = snakemake_hooks.limit_gpus(workflow)


localrules:
    all,
    data,
    networks,
    predictions,
    summary,
    tables,
    figures,
