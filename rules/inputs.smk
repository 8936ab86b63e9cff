# In:    PLAN.
# Out:   the functions that give rules their inputs, parameters and captions.
# Stale: what these functions return makes jobs stale; what untracked() returns does not.

from nontrivial.data.manifest import check_files, source_identity
from nontrivial.execution.snakemake_hooks import untracked
from nontrivial.formats.canonical import canonical, file_digest
from nontrivial.planning.fingerprint import fingerprint, module_file


@functools.cache
def code(script, factory=None):
    """Return the fingerprint of a program in workflow/scripts, and of a network's factory."""
    roots = [SCRIPTS, Path.cwd()]
    package = factory.partition(":")[0].split(".") if factory else []
    files = [module_file(".".join(package[: n + 1]), roots) for n in range(len(package))]
    try:
        ours = fingerprint(SCRIPTS / script, [SCRIPTS])
        return " ".join([ours, *(fingerprint(file, roots) for file in files if file)])
    except UserError as error:
        raise WorkflowError(str(error)) from None


def program(name):
    """Return the path of a program in workflow/scripts, as a parameter."""
    return untracked(str(SCRIPTS / name))


@functools.cache
def raw_data(dataset):
    """Return the identity of a data set's raw files: by content, not modification times."""
    settings, data_dir = PLAN.config["datasets"][dataset], Path(PLAN.config["data_dir"])
    cache = Path(".snakemake", "nontrivial", f"{dataset}.json")
    is_run = snakemake_hooks.adds_files(workflow)  # or a dry run
    try:
        if is_run:
            check_files(settings, data_dir, Path(RESULTS, "data", dataset, "dataset.json").exists())
        return source_identity(settings, data_dir, cache, save=is_run)
    except UserError as error:
        raise WorkflowError(f"datasets.{dataset}: {error}") from None


# Before the jobs are planned, where Snakemake adds nothing to the message.
for dataset in PLAN.needed_datasets(snakemake_hooks.requested(workflow)):
    raw_data(dataset)


def data_of(wildcards):
    """Return the folder of the prepared data that a job's training or experiment uses."""
    if "experiment" in wildcards.keys():
        return f"{RESULTS}/data/{PLAN.dataset(wildcards.experiment)}"
    return f"{RESULTS}/data/{PLAN.config['trainings'][wildcards.training]['dataset']}"


def description(wildcards):
    """Return the description of a job's prepared data, which holds the digests of its arrays."""
    return f"{data_of(wildcards)}/dataset.json"


def prepared(*splits):
    """Return an input function: arrays and samples of some splits, or of the evaluated one."""

    def paths(wildcards):
        chosen = splits or [PLAN.config["experiments"][wildcards.experiment]["split"]]
        return [f"{data_of(wildcards)}/{split}/{name}" for split in chosen for name in PREPARED]

    return paths


def network_file(name):
    """Return an input function: a file of the trained network of a job's experiment."""
    return lambda w: f"{RESULTS}/networks/{PLAN.training(w.experiment)}/seed{w.seed}/{name}"


def predictions(suffix, baseline=False):
    """Return an input function: per seed, the file with predictions of a target or the baseline."""

    def paths(wildcards):
        targets = PLAN.targets(wildcards.experiment)
        batch = targets["baseline" if baseline else wildcards.target].batch
        return [
            f"{PLAN.seed_folder(wildcards.experiment, seed)}/predictions/{batch}{suffix}"
            for seed in PLAN.seeds(wildcards.experiment)
        ]

    return paths


def captioned(path, caption, category, **labels):
    """Return an output that Snakemake's report shows with a caption."""
    return report(path, caption=f"../workflow/report/{caption}", category=category, labels=labels)
