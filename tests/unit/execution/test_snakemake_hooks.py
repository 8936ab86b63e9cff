"""What the workflow assumes of Snakemake beyond its documented interface.

A failure here means that Snakemake has changed: adapt execution/snakemake_hooks.py, then the
releases that pyproject.toml allows.
"""

import ast
import fcntl
import inspect
import json
import re
import subprocess
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

import pytest
from snakemake import cli
from snakemake.scheduling import job_scheduler

from nontrivial.execution.snakemake_hooks import OTHER_COMMANDS

ROOT = Path(__file__).parents[3]
SNAKEFILE = """
import gc, json, signal, sys
from pathlib import Path

sys.path.insert(0, {scripts!r})
from nontrivial.execution import snakemake_hooks as hooks

hooks.collect_garbage_rarely()
hooks.lock_results(workflow, Path("results"))


def note(**found):
    with open("seen.jsonl", "a") as file:
        print(json.dumps(found), file=file)


note(
    adds_files=hooks.adds_files(workflow),
    starts_jobs=hooks.starts_jobs(workflow),
    gpus=hooks.limit_gpus(workflow),
    limit=workflow.global_resources["gpu"].value if "gpu" in workflow.global_resources else None,
    threshold=gc.get_threshold()[0],
)


rule one:
    output:
        "results/one.txt",
    resources:
        gpu=1,
    shell:
        "touch {{output}}"


onstart:
    before = dict(
        limiter=type(workflow.scheduler.job_rate_limiter).__name__,
        terminate=signal.getsignal(signal.SIGTERM) == workflow.scheduler.exit_gracefully,
        interrupt=signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    )
    hooks.start_run(workflow, Path("results"))
    handlers = {{signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}}
    note(
        **before,
        gpu=workflow.scheduler.resources["gpu"],
        limiter_after=workflow.scheduler.job_rate_limiter,
        handlers=[handler.__module__ for handler in handlers],
    )
"""


@pytest.fixture
def snakemake(tmp_path):
    """Return a function that runs Snakemake and returns what it printed and found."""
    scripts = str(ROOT / "workflow" / "scripts")
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(scripts=scripts))
    seen = tmp_path / "seen.jsonl"

    def run(*arguments):
        seen.unlink(missing_ok=True)
        line = [sys.executable, "-m", "snakemake", *arguments]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        found = seen.read_text().splitlines() if seen.exists() else []
        return done.stdout + done.stderr, *map(json.loads, found)

    run.folder = tmp_path
    return run


def test_release():
    assert version("snakemake").startswith("9.27.")
    assert '"snakemake>=9.27,<9.28"' in (ROOT / "pyproject.toml").read_text()


def test_commands_without_jobs_are_those_of_the_command_line():
    """In `args_to_api`, whatever is asked for before `execute_workflow` replaces it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cli.args_to_api)))
    asked = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.If):
            continue
        reaches_run = any("execute_workflow" in ast.unparse(part) for part in node.orelse)
        if reaches_run:
            asked |= {
                part.attr
                for part in ast.walk(node.test)
                if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "args"
            }
    assert asked - {"deploy_sources", "report_after_run"} == set(OTHER_COMMANDS)
    _, defaults = cli.parse_args([])
    assert not any(getattr(defaults, name) for name in (*OTHER_COMMANDS, "reporter", "report"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--lint"],
        ["--list-rules"],
        ["--summary", "--cores", "2"],
        ["--cores", "2", "--mode", "remote", "--no-hooks"],
    ],
    ids=" ".join,
)
def test_read_only_commands_and_cluster_jobs_start_no_jobs_and_add_no_files(snakemake, arguments):
    text, found, *started = snakemake(*arguments)
    assert (found["adds_files"], found["starts_jobs"], found["limit"]) == (False, False, None)
    assert "GPU" not in text
    assert not (snakemake.folder / "results/.lock").exists()
    assert not started


@pytest.mark.parametrize("arguments", [["-n"], ["-n", "--cores", "2"], []], ids=" ".join)
def test_dry_runs_may_add_files_and_start_no_jobs(snakemake, arguments):
    _, found, *started = snakemake(*arguments)
    assert (found["adds_files"], found["starts_jobs"], found["limit"]) == (True, False, None)
    assert not (snakemake.folder / "results").exists()
    assert not started


def test_a_run_has_one_gpu_no_limit_of_jobs_per_second_and_our_signal_handlers(snakemake):
    text, found, started = snakemake("--cores", "2", "--jobs", "2")
    assert (found["adds_files"], found["starts_jobs"]) == (True, True)
    assert (found["gpus"], found["limit"], found["threshold"]) == (1, 1, 1_000_000)
    assert text.count("No --resources gpu=N was given") == 1
    assert re.search(r"^Provided resources: .*gpu=.*1", text, re.MULTILINE)
    assert started == {
        "limiter": job_scheduler.JobRateLimiter.__name__,
        "terminate": True,
        "interrupt": True,
        "gpu": 1,
        "limiter_after": None,
        "handlers": ["nontrivial.execution.snakemake_hooks"],
    }
    assert (snakemake.folder / "results/one.txt").exists()


def test_the_users_number_of_gpus(snakemake):
    text, found, started = snakemake("--cores", "2", "--resources", "gpu=3")
    assert (found["gpus"], found["limit"], started["gpu"]) == (3, 3, 3)
    assert "GPU" not in text


def test_a_locked_folder_is_refused_before_jobs_are_planned(snakemake):
    (snakemake.folder / "results").mkdir()
    with (snakemake.folder / "results/.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text, *_ = snakemake("--cores", "1")
        assert "another run uses results" in text
        assert "Building DAG" not in text
        assert "Traceback" not in text
        text, *_ = snakemake("-n")
        assert "Building DAG" in text


FAILING = """

rule fail:
    output:
        "results/{name}.txt",
    log:
        "{name}.log",
    shell:
        "echo error: {wildcards.name} is damaged > {log}; echo Aborting >> {log}; exit 1"


rule slow:
    output:
        "results/slow.txt",
    shell:
        "sleep 1; for i in $(seq 50); do echo line $i; done; touch {output}"


ruleorder: slow > fail


rule wanted:
    input:
        "results/a.txt", "results/b.txt", "results/slow.txt",


onerror:
    hooks.repeat_failures(workflow)
"""


def test_failures_are_repeated_at_the_end(snakemake):
    with (snakemake.folder / "Snakefile").open("a") as file:
        file.write(FAILING)
    text, *_ = snakemake("wanted", "--cores", "3", "--keep-going")
    end = text.splitlines()[-20:]
    assert "Failed: fail (name=a): error: a is damaged" in end
    assert "Failed: fail (name=b): error: b is damaged" in end


USE = """
import sys
from pathlib import Path

sys.path.insert(0, {scripts!r})
from nontrivial.execution import snakemake_hooks as hooks

hooks.refuse_prefix(workflow)
hooks.refuse_second_configuration(workflow, Path("results"))


rule one:
    output:
        "results/one.txt",
    params:
        tracked=config.get("tracked", 0),
        untracked=hooks.untracked(config.get("untracked", 0)),
    shell:
        "echo {{params.tracked}} {{params.untracked}} > {{output}}"
"""


@pytest.fixture
def use(snakemake):
    """Return the function of `snakemake` for a workflow that is used in unusual ways."""
    scripts = str(ROOT / "workflow" / "scripts")
    (snakemake.folder / "Snakefile").write_text(USE.format(scripts=scripts))
    return snakemake


def test_only_tracked_parameters_rerun_a_job(use):
    use("--cores", "1", "--config", "tracked=1", "untracked=2")
    assert (use.folder / "results/one.txt").read_text() == "1 2\n"
    text, *_ = use("-n", "--config", "tracked=1", "untracked=3")
    assert "Nothing to be done" in text
    text, *_ = use("-n", "--config", "tracked=2", "untracked=2")
    assert "Params have changed" in text


def test_a_result_after_configfile_is_refused(use):
    for name in ("mine.yaml", "more.yaml", "results/digest.json"):
        path = use.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    text, *_ = use("-n", "--configfile", "mine.yaml", "results/digest.json")
    assert "snakemake results/digest.json --configfile mine.yaml" in text
    assert "Traceback" not in text
    text, *_ = use("-n", "--configfile", "mine.yaml", "more.yaml")
    assert "rule one" in text


@pytest.mark.parametrize("prefix", ["", 'prefix: "elsewhere"'])
def test_a_prefix_is_refused(use, prefix):
    (use.folder / "Snakefile").rename(use.folder / "used.smk")
    (use.folder / "Snakefile").write_text(
        f'module used:\n    snakefile: "used.smk"\n    {prefix}\n\nuse rule * from used\n'
    )
    text, *_ = use("-n", "one")
    assert ("set results_dir" in text) == bool(prefix)
    assert ("rule one" in text) == (not prefix)


def test_the_snakefiles_of_a_checkout_are_local_files(use):
    with (use.folder / "Snakefile").open("a") as file:
        file.write(
            "\nfrom snakemake.sourcecache import LocalSourceFile\n"
            "assert isinstance(workflow.current_basedir, LocalSourceFile)\n"
            "print('ROOT', workflow.current_basedir.get_path_or_uri(secret_free=True))\n"
        )
    text, *_ = use("-n")
    assert f"ROOT {use.folder}" in text


@pytest.fixture
def asked(snakemake):
    """Return a function that tells which keys a command line sets and what it is to make."""
    snakefile = snakemake.folder / "Snakefile"
    scripts = str(ROOT / "workflow" / "scripts")
    snakefile.write_text(
        f"import sys\nsys.path.insert(0, {scripts!r})\n"
        "from nontrivial.execution import snakemake_hooks as hooks\n"
        "print('ASKED', hooks.command_line_keys(workflow), hooks.requested(workflow))\n"
        "rule all:\n    shell: 'touch x'\n"
        "rule one:\n    output: 'one.txt'\n    shell: 'touch one.txt'\n"
    )

    def ask(*arguments, as_module=False):
        if as_module:
            snakefile.rename(snakemake.folder / "used.smk")
            snakefile.write_text('module used:\n    snakefile: "used.smk"\nuse rule * from used\n')
        text, *_ = snakemake(*arguments)
        return re.search("ASKED (.*)", text)[1]

    return ask


@pytest.mark.parametrize(
    ("arguments", "requested"),
    [
        (["-n"], ["all"]),
        (["-n", "all"], ["all"]),
        (["-n", "one.txt"], ["one.txt"]),
        (["-n", "one.txt", "all"], ["all", "one.txt"]),
        (["--cores", "1", "--summary"], []),
    ],
)
def test_what_a_command_is_to_make(asked, arguments, requested):
    assert asked(*arguments) == f"{{}} {requested}"


def test_keys_of_the_command_line(asked):
    assert (
        asked("-n", "--config", "a_b={c: [1]}", "dd=2") == "{'a_b': {'c': ['1']}, 'dd': 2} ['all']"
    )


def test_the_command_line_of_a_module_is_of_the_importing_workflow(asked):
    assert asked("-n", "--config", "aa=[1]", as_module=True) == "{} []"
