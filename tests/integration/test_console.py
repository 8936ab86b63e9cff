"""What a run with ``--quiet rules`` prints, as `make quickstart` does."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Many jobs that take no time, and one that fails on request.
SNAKEFILE = """
import sys
from pathlib import Path

sys.path.insert(0, {scripts!r})
from nontrivial.execution import snakemake_hooks

snakemake_hooks.print_few_lines(workflow)

rule all:
    input:
        expand("{{n}}.txt", n=range(120)),

rule one:
    output:
        "{{n}}.txt",
    log:
        "{{n}}.log",
    params:
        failing=lambda w: int(int(w.n) == {failing}),
    shell:
        "if test {{params.failing}} = 1; then echo 'error: no such label' > {{log}}; exit 1; fi;"
        " touch {{output}}"

onstart:
    # As a run does; Snakemake prints a line each time its limit of jobs per second is reached.
    snakemake_hooks.schedule_once_per_job(workflow)

onerror:
    snakemake_hooks.repeat_failures(workflow)
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs those jobs and returns the lines that Snakemake printed."""

    def lines(*arguments: str, failing: int = -1) -> list[str]:
        scripts = str(ROOT / "workflow" / "scripts")
        (tmp_path / "Snakefile").write_text(SNAKEFILE.format(scripts=scripts, failing=failing))
        command = [sys.executable, "-m", "snakemake", "--cores", "4", "--scheduler", "greedy"]
        # Above 100 jobs a second, more than real ones reach, Snakemake prints that it waits.
        command += ["--max-jobs-per-timespan", "1000/1s"]
        command += ["--keep-going", "--quiet", "host", "reason", "rules", *arguments]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            text=True,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == (failing >= 0), done.stdout
        return done.stdout.splitlines()

    return lines


def test_a_run_of_many_jobs_prints_few_lines_with_its_progress(run):
    lines = run()
    assert len(lines) <= 20
    progress = [line for line in lines if line.endswith("done")]
    assert len(progress) == 5
    assert progress[-1] == "121 of 121 steps (100%) done"


def test_the_last_lines_name_what_failed_and_why(run):
    last = run(failing=7)[-20:]
    assert any("one (n=7): error: no such label" in line for line in last)
    assert any("At least one job did not complete successfully" in line for line in last)


def test_the_log_file_keeps_the_lines_about_jobs(run, tmp_path):
    run()
    (log,) = (tmp_path / ".snakemake" / "log").glob("*.log")
    text = log.read_text()
    assert text.count("Finished jobid: ") == 121
    assert "120 of 121 steps (99%) done" in text
