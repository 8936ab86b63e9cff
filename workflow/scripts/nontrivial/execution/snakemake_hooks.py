"""Everything in which the workflow touches Snakemake beyond rules.

Most of it has no official interface, so this module holds for the releases that ``pyproject.toml``
allows (>=9.27,<9.28). ``tests/unit/execution/test_snakemake_hooks.py`` checks each assumption
against the installed release: try a new one with that test first.

Two such uses must come before the library can be imported: ``Snakefile`` asks whether the command
line names a configuration, and ``rules/common.smk`` finds the root of the repository.
"""

import argparse
import functools
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

import psutil
from snakemake import cli
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.enums import Quietness
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
from snakemake_interface_logger_plugins.common import LogEvent

from nontrivial.errors import UserError
from nontrivial.execution import results_lock
from nontrivial.execution.atomic import remove_abandoned
from nontrivial.execution.command_line import explain
from nontrivial.execution.interruption import SIGNALS

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

T = TypeVar("T")

# Options that make Snakemake read the Snakefile and then do something else than run jobs.
OTHER_COMMANDS = (
    "archive",
    "cleanup_metadata",
    "cleanup_shadow",
    "conda_cleanup_envs",
    "conda_create_envs_only",
    "container_cleanup_images",
    "containerize",
    "d3dag",
    "dag",
    "delete_all_output",
    "delete_temp_output",
    "detailed_summary",
    "filegraph",
    "generate_unit_tests",
    "lint",
    "list_changes",
    "list_conda_envs",
    "list_input_changes",
    "list_params_changes",
    "list_rules",
    "list_target_rules",
    "list_untracked",
    "print_compilation",
    "rulegraph",
    "summary",
    "unlock",
)

CONSOLE = "DefaultStreamHandler"  # Snakemake's name of the log handler that prints
MOST_FAILURES = 5  # repeated at the end, so that they fit on a screen


# What this command does
#
# Snakemake reads the Snakefile before it decides what to do. Nothing that a Snakefile sees tells a
# run from `--lint` or `--summary --cores 2`; only the arguments of the command line do.


def _arguments() -> argparse.Namespace | None:
    """Return the arguments of the command line, or None under Snakemake's Python interface."""
    frame: FrameType | None = sys._getframe()
    while frame and frame.f_code is not cli.args_to_api.__code__:
        frame = frame.f_back
    return frame.f_locals["args"] if frame else None


def adds_files(workflow: "Workflow") -> bool:
    """Return whether reading the Snakefile may add files that are named by their content.

    True for runs and dry runs, which need these files. False for commands that only look, such as
    ``--lint`` or ``--summary``, and for the Snakemakes inside of cluster jobs, which only read.
    """
    arguments = _arguments()
    if not workflow.is_main_process:
        return False
    if arguments is None:
        return True
    is_report = bool(arguments.reporter) and not arguments.report_after_run
    return not is_report and not any(getattr(arguments, name) for name in OTHER_COMMANDS)


def starts_jobs(workflow: "Workflow") -> bool:
    """Return whether this command will start jobs (without ``--cores`` or ``--jobs`` it fails)."""
    return (
        adds_files(workflow)
        and not workflow.output_settings.dryrun
        and bool(workflow.resource_settings.cores or workflow.resource_settings.nodes)
    )


def runs_on_cluster(workflow: "Workflow") -> bool:
    """Return whether the jobs go to a cluster or a cloud."""
    arguments = _arguments()
    if arguments is None:  # only those need a number of jobs
        return bool(workflow.resource_settings.nodes)
    plugin = ExecutorPluginRegistry().get_plugin(arguments.executor)
    return not plugin.common_settings.local_exec


def limit_gpus(workflow: "Workflow") -> int:
    """Return how many jobs have a GPU at a time; set the limit to 1 where there is none.

    Without ``--resources gpu=N`` Snakemake would start every training at once. On a cluster the
    profile and the queue set the limit.
    """
    if "gpu" in workflow.global_resources:
        return int(workflow.global_resources["gpu"].value or 1)
    if starts_jobs(workflow) and not runs_on_cluster(workflow):
        logger.info("No --resources gpu=N was given: one GPU job runs at a time, as with gpu=1.")
        workflow.register_resource("gpu", 1)
    return 1


# How the workflow is used


def is_module(workflow: "Workflow") -> bool:
    """Return whether another workflow imports this one as a module."""
    return workflow.modifier.parent_modifier is not None


def command_line_keys(workflow: "Workflow") -> dict:
    """Return the keys of the configuration that ``--config`` sets, as Snakemake has read them.

    None in a module, where they are keys of the workflow that imports it.
    """
    return {} if is_module(workflow) else dict(workflow.config_settings.config)


def requested(workflow: "Workflow") -> list[str]:
    """Return the rules and files that this command, or the run that it shows, is to make.

    None under Snakemake's Python interface, or if another workflow imports this one.
    """
    arguments = _arguments()
    if arguments is None or not adds_files(workflow) or is_module(workflow):
        return []
    return sorted(arguments.targets) or ["all"]


def refuse_prefix(workflow: "Workflow") -> None:
    """Refuse a ``prefix`` from the workflow that uses this one as a module.

    Snakemake would add it to the paths in rules, but not to those that the library computes.

    Raises:
        WorkflowError: there is a prefix.
    """
    if workflow.modifier.path_modifier.prefix:
        raise WorkflowError(
            "nontrivial does not support prefix: set results_dir in the module's configuration"
            " instead."
        )


def refuse_second_configuration(workflow: "Workflow", results: Path) -> None:
    """Refuse a result that was named after ``--configfile``.

    Snakemake reads every argument after ``--configfile`` as a configuration file.

    Raises:
        WorkflowError: a configuration file besides the first is in the results folder.
    """
    for path in map(Path, workflow.overwrite_configfiles[1:]):
        if path.resolve().is_relative_to(results.resolve()):
            # Snakemake makes the paths absolute, but a result is known by the path in its rule.
            target = results / path.resolve().relative_to(results.resolve())
            first = os.path.relpath(workflow.overwrite_configfiles[0])
            raise WorkflowError(
                f"{target} was read as a second configuration file. Name what to make before"
                f" --configfile: snakemake {target} --configfile {first}"
            )


def untracked(value: T) -> Callable[..., T]:
    """Return a parameter whose change reruns nothing: Snakemake ignores those that use `output`.

    Shell commands can use only parameters: in a `module`, they cannot see the variables of the
    rules' files.
    """
    return lambda wildcards, output: value


# Before the jobs are planned


class _FewLines(logging.Filter):
    """Drops lines about single jobs and files, and prints the progress a few times only."""

    DROPPED_EVENTS = (LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.RESOURCES_INFO)
    DROPPED_TEXTS = ("Select jobs to execute", "Using shell", "Building DAG", "Adding ")
    PROGRESS_LINES = 5

    def __init__(self) -> None:
        super().__init__()
        self._printed = 0

    def filter(self, record: logging.LogRecord) -> bool:
        event = getattr(record, "event", None)
        if event == LogEvent.PROGRESS:
            part = self.PROGRESS_LINES * vars(record)["done"] // vars(record)["total"]
            before, self._printed = self._printed, part
            return part > before
        if event in self.DROPPED_EVENTS:
            return False
        return not record.getMessage().startswith(self.DROPPED_TEXTS)


def print_few_lines(workflow: "Workflow") -> None:
    """Print no lines about single jobs if the user asked for ``--quiet rules``.

    Snakemake itself still prints five lines for each job then. Its log file keeps them.
    """
    if Quietness.RULES in (workflow.output_settings.quiet or ()):
        for handler in logger.handlers:
            is_new = not any(isinstance(one, _FewLines) for one in handler.filters)
            if handler.name == CONSOLE and is_new:
                handler.addFilter(_FewLines())


def collect_garbage_rarely() -> None:
    """Make Python look for garbage less often.

    The graph of jobs is millions of objects that stay. With Python's thresholds, looking through
    them takes a quarter of Snakemake's time.
    """
    gc.set_threshold(1_000_000, 50, 100)


def lock_results(workflow: "Workflow", results: Path) -> None:
    """Lock the results folder if this command starts jobs, before Snakemake looks at the results.

    Otherwise jobs could be planned from results that another run is about to replace. A folder
    that cannot be written is only warned of, because finished results may be read-only.

    Raises:
        WorkflowError: another run uses the folder, or it is no folder for results alone.
    """
    if not starts_jobs(workflow):
        return
    try:
        _lock(results)
    except WorkflowError as error:
        if os.access(results, os.W_OK) or not results.exists():
            raise
        logger.warning(str(error))


@functools.cache  # the process keeps the lock, and may import the workflow as several modules
def _lock(results: Path) -> None:
    try:
        if not results_lock.acquire(results):
            logger.warning(
                f"The file system of {results} does not support locks. Do not start a second run"
                " with this results_dir until this one has finished."
            )
    except UserError as error:
        raise WorkflowError(str(error)) from None


# When the first jobs are about to start (`onstart`, so not in a workflow used as a module)


def start_run(workflow: "Workflow", results: Path) -> None:
    """Lock and clean the results folder, and prepare Snakemake's scheduler and signal handlers.

    Raises:
        WorkflowError: the results folder cannot be used or written.
    """
    _lock(results)
    schedule_once_per_job(workflow)
    pass_signals_to_trainings()
    try:
        # An interrupted training may still be writing its checkpoint.
        remove_abandoned(results, spared="checkpoint", elsewhere=results_lock.NAME)
    except OSError as error:
        raise WorkflowError(explain(error)) from None


def schedule_once_per_job(workflow: "Workflow") -> None:
    """Remove Snakemake's limit of jobs per second where jobs are processes of this host.

    With the limit, every scheduling round starts a timer for another round a second later, which
    does the same: rounds multiply with each job that finishes, and thousands of jobs stall.
    """
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


def pass_signals_to_trainings() -> None:
    """Pass SIGTERM, SIGINT and SIGHUP on to trainings, which write a checkpoint and exit.

    At SIGTERM Snakemake itself waits for running jobs, which can take a day for a training; a
    closed terminal kills it.
    """
    start_no_new_jobs, cancel = map(signal.getsignal, (signal.SIGTERM, signal.SIGINT))

    def stop(number: int, frame: FrameType | None) -> None:
        for process in psutil.Process().children(recursive=True):
            try:
                # In a shell that has not become the training yet, it is part of an argument.
                if any("/train_network.py" in word for word in process.cmdline()):
                    process.send_signal(number)
            except psutil.Error:  # it has just exited
                continue
        handler = cancel if number == signal.SIGINT else start_no_new_jobs
        if callable(handler):
            handler(number, frame)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP, for example
            signal.signal(number, stop)


# When jobs have failed (`onerror`)


def repeat_failures(workflow: "Workflow") -> None:
    """Log which jobs failed and why, below the messages of jobs that ran on after the failure."""
    failed = sorted(
        (job for entry in workflow.scheduler.failed for job in getattr(entry, "jobs", [entry])),
        key=str,
    )
    for job in failed[:MOST_FAILURES]:
        wildcards = ", ".join(f"{name}={value}" for name, value in job.wildcards_dict.items())
        where = f"{job.rule.name} ({wildcards})" if wildcards else job.rule.name
        logger.error(f"Failed: {where}: {_last_error(job.log)}")
    if len(failed) > MOST_FAILURES:
        logger.error(f"Failed: {len(failed) - MOST_FAILURES} more jobs")


def _last_error(logs: Sequence[str]) -> str:
    lines = [
        line
        for path in logs
        if os.path.exists(path)
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it logged nothing"])[-1]
