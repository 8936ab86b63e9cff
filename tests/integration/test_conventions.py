"""What Snakemake's linter and the Snakemake workflow catalog check."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_snakemake_lint_has_no_findings():
    command = [sys.executable, "-m", "snakemake", "--lint"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert "Congratulations, your workflow is in a good condition!" in text


def test_rules_that_compute_log_and_measure_themselves():
    for path in (ROOT / "rules").glob("*.smk"):
        for block in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            name = block.partition(":")[0]
            computes = "    shell:\n" in block
            for directive in ("log", "benchmark", "conda"):
                assert (f"    {directive}:\n" in block) == computes, f"{name}: {directive}"


def test_shell_commands_have_one_option_per_line():
    for path in (ROOT / "rules").glob("*.smk"):
        for line in path.read_text().splitlines():
            if re.match(r"""        ["'] ?(exec |python |--)""", line):
                assert line.count(" --") <= 1, f"{path.name}: {line}"
                assert not re.match(r'        "(exec )?python .* --', line), f"{path.name}: {line}"


def test_the_workflow_catalog_finds_what_it_requires():
    assert "Snakemake" in (ROOT / "README.md").read_text()
    includes = re.findall(r'^include: "(.*)"$', (ROOT / "workflow/Snakefile").read_text(), re.M)
    assert [(ROOT / "workflow" / path).resolve() for path in includes] == [ROOT / "Snakefile"]
    assert (ROOT / "config" / "README.md").exists()
    entry = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())
    assert set(entry) == {"usage"}
    usage = entry["usage"]
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert usage["software-stack-deployment"] == {"conda": True}
    assert usage["report"] is True
    # The entry says that every job has an environment and the report has captions.
    assert (ROOT / "workflow" / "report" / "workflow.rst").exists()


def test_a_result_after_the_configuration_is_told_from_a_second_configuration(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / "dataset.json").write_text("{}")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"results_dir": str(results)}))
    command = [sys.executable, "-m", "snakemake", "-n"]
    arguments = ["--configfile", config, results / "dataset.json"]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Name what to make before --configfile" in done.stdout + done.stderr
