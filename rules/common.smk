# In:  the configuration, its schema, the kernel tables.
# Out: PLAN (each rule's own part of the configuration), code() (a program's fingerprint).
# Stale: nothing here; what these functions return makes the jobs of the other files stale.

import functools
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import LocalSourceFile

if not isinstance(workflow.current_basedir, LocalSourceFile):
    raise WorkflowError(
        "nontrivial runs from a checkout only: its programs and kernel tables are files beside the"
        " Snakefile. Clone the repository and give the module the path <checkout>/workflow/Snakefile."
    )
if workflow.modifier.path_modifier.prefix:
    raise WorkflowError(
        "nontrivial takes no prefix: set results_dir in the module's configuration instead."
    )

# Relative, so that a moved folder makes nothing stale.
ROOT = Path(os.path.relpath(workflow.current_basedir.get_path_or_uri(secret_free=True))).parent
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
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))

# Snakemake takes all that follows --configfile for configuration files, targets too.
for path in workflow.overwrite_configfiles[1:]:
    if Path(path).resolve().is_relative_to(Path(config.get("results_dir", "results")).resolve()):
        raise WorkflowError(
            f"{path} was read as a second configuration file; name targets before --configfile:"
            f" snakemake {path} --configfile {workflow.overwrite_configfiles[0]}"
        )

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
BENCHMARKS = f"{RESULTS}/benchmarks"

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


def untracked(value):
    """Return a parameter whose change reruns nothing: Snakemake leaves those out that take `output`.

    Shell commands use parameters only: in a `module` they do not see this file's variables.
    """
    return lambda wildcards, output: value


def program(name):
    """Return the path of a program in workflow/scripts, as a parameter."""
    return untracked(str(SCRIPTS / name))


@functools.cache
def raw_data(dataset):
    """Return the identity of a data set's raw files: their content, not their times."""
    cache = Path(".snakemake", "nontrivial", f"{dataset}.json")
    try:
        return source_identity(
            PLAN.config["datasets"][dataset],
            Path(PLAN.config["data_dir"]),
            cache,
            save=snakemake_hooks.adds_files(workflow),
        )
    except UserError as error:
        raise WorkflowError(f"datasets.{dataset}: {error}") from None


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


def predictions(suffix, baseline=False):
    """Return an input function: the file with the predictions of a target, or of the baseline."""

    def path(wildcards):
        targets = PLAN.targets(wildcards.experiment)
        batch = targets["baseline" if baseline else wildcards.target].batch
        return f"{EXPERIMENT}/predictions/{batch}{suffix}"

    return path


def captioned(path, caption, category, **labels):
    """Return an output that Snakemake's report shows, with its caption."""
    return report(path, caption=f"../workflow/report/{caption}", category=category, labels=labels)


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
