# In:  the configuration, its schema, the kernel tables.
# Out: PLAN (each rule's own part of the configuration), code() (a program's fingerprint), the lock
#      of the results.
# Stale: nothing here; what these functions return makes the jobs of the other files stale.

import functools
import gc
import os
import signal
import sys
from pathlib import Path

import psutil
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# Relative, so that a moved folder makes nothing stale.
ROOT = Path(os.path.relpath(workflow.basedir))
SCRIPTS = ROOT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS.resolve()))

from nontrivial import result_times
from nontrivial.atomic import remove_abandoned, write_text
from nontrivial.canonical import canonical, file_digest
from nontrivial.planning.configuration import complete, read_schema
from nontrivial.errors import UserError
from nontrivial.planning import run_lock
from nontrivial.planning.fingerprint import fingerprint, module_file
from nontrivial.planning.plan import Plan
from nontrivial.program import explain
from nontrivial.data.raw_data import source_identity

# The graph of jobs is millions of objects that stay: looking for garbage among them again and again
# takes a fifth of Snakemake's time.
gc.set_threshold(100_000)

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


def stop_trainings_with_snakemake():
    """Let trainings stop at once, with a checkpoint, when Snakemake on this machine has to stop.

    Snakemake itself waits at SIGTERM for the jobs that run, which for a training can be a day,
    and dies of a closed terminal with its folder locked.
    """
    start_nothing_new, interrupt = map(signal.getsignal, (signal.SIGTERM, signal.SIGINT))

    def stop(number, frame):
        for process in psutil.Process().children(recursive=True):
            try:
                # Of a shell that has not become the training yet, it is part of a word.
                if any("/train_network.py" in word for word in process.cmdline()):
                    process.send_signal(number)
            except psutil.Error:  # it has just ended
                continue
        (interrupt if number == signal.SIGINT else start_nothing_new)(number, frame)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP, say
            signal.signal(number, stop)


@functools.cache
def lock_results():
    """Keep a second run out of the results folder, however this one ends."""
    try:
        if not run_lock.take(Path(RESULTS)):
            logger.warning(
                f"The file system of {RESULTS} has no locks: start no second run on it beside this."
            )
    except UserError as error:
        raise WorkflowError(str(error)) from None


# Before Snakemake looks at files that another run makes and removes, or that cannot be written: it
# may fail then, in words that do not tell why. A mere look at the results is not refused.
if workflow.is_main_process and not workflow.dryrun and os.path.exists(RESULTS):
    try:
        lock_results()
    except WorkflowError as error:
        logger.warning(str(error))

# Without a limit Snakemake would start every training at once. A cluster's limit is its own.
if workflow.local_exec and workflow.is_main_process and not workflow.dryrun:
    if "gpu" not in workflow.global_resources:
        logger.warning(
            "No --resources gpu=N was given: one job at a time has the GPU, as with gpu=1."
        )
        workflow.register_resource("gpu", 1)

# Jobs on several GPUs of one machine share its cores.
GPUS = int(workflow.global_resources["gpu"].value or 1) if "gpu" in workflow.global_resources else 1


def schedule_once_per_job():
    """Drop Snakemake's limit of jobs per second where jobs are processes of this machine.

    With it each look for jobs to start sets off another one a second later, which does the same:
    their number grows with every job that ends (Snakemake 9.27), and thousands of jobs drown.
    """
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


def put_times_right():
    """Leave no result that looks newer than it is, whatever the clock did or does."""
    behind = result_times.leave_the_future(Path(RESULTS))
    if behind > 1:  # a file server's clock may be a little ahead
        logger.warning(
            f"The clock is {behind:.0f} s behind the newest result: the times of all were moved back."
        )
    result_times.mark_stale(path for job in workflow.dag.needrun_jobs() for path in job.output)


onstart:
    lock_results()
    schedule_once_per_job()
    stop_trainings_with_snakemake()
    try:
        # A training that was asked to end may still write its checkpoint.
        remove_abandoned(Path(RESULTS), spared="checkpoint")
        put_times_right()
        for spec in SPECS:
            path = Path(spec.path)
            if not path.exists() or path.read_bytes() != spec.text.encode():
                write_text(spec.path, spec.text)
    except OSError as error:
        raise WorkflowError(explain(error)) from None


localrules:
    all,
    data,
    networks,
    predictions,
    summary,
    tables,
    figures,
