"""The profiles say the same but where they must differ, and fit the rules and the lock files."""

import re
from pathlib import Path

import pytest
import yte
from conftest import TARGET_RULES

ROOT = Path(__file__).parents[3]
RULES = {
    name
    for path in (ROOT / "rules").glob("*.smk")
    for name in re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE)
}
JOBS = RULES - TARGET_RULES
ON_GPU = {"train", "predict", "predict_examples"}


def read(name, **edited):
    """Return a profile as Snakemake reads it, with some of its variables edited."""
    text = (ROOT / "profiles" / name / "config.yaml").read_text()
    for variable, value in edited.items():
        text, found = re.subn(rf"^  {variable}: \S+", f"  {variable}: {value}", text, flags=re.M)
        assert found == 1
    return yte.process_yaml(text, require_use_yte=True)


def test_slurm_repeats_the_default_profile():
    default, slurm = read("default"), read("slurm")
    # One GPU there is the machine's, here a job's: the cluster knows how many it has.
    assert slurm["set-resource-scopes"] == {"gpu": "local"}
    assert {key: slurm.get(key) for key in default} == default


def test_settings_that_both_have_are_explained_alike():
    def explained(name):
        text = (ROOT / "profiles" / name / "config.yaml").read_text()
        return {
            setting: comment
            for comment, setting in re.findall(r"((?:^#.*\n)+)([a-z-]+):", text, re.MULTILINE)
        }

    default, slurm = explained("default"), explained("slurm")
    for setting in default:
        assert slurm[setting] == default[setting], setting


@pytest.mark.parametrize("profile", ["default", "slurm"])
def test_every_setting_has_its_reason(profile):
    lines = (ROOT / "profiles" / profile / "config.yaml").read_text().splitlines()
    settings = [n for n, line in enumerate(lines) if re.match("[a-z]", line)]
    together = {"scheduler-subsample", "resources"}  # with the setting above
    for n in settings:
        name = lines[n].partition(":")[0]
        assert lines[n - 1].startswith("#") or name in together, name


def test_bundles_and_requests_name_rules_and_groups_that_exist():
    profile = read("slurm")
    assert set(profile["groups"]) == JOBS - {"train"}
    assert set(profile["set-resources"]) <= JOBS
    assert set(profile["group-components"]) == set(profile["groups"].values())


def test_names_of_bundles_use_wildcards_of_their_rules():
    text = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    for rule, group in read("slurm")["groups"].items():
        # The log of a rule has all its wildcards.
        (log,) = re.findall(rf"^rule {rule}:.*?^    log:\n(.*?)\n", text, re.MULTILINE | re.DOTALL)
        assert set(re.findall(r"\{(\w+)\}", group)) <= set(re.findall(r"\{\{(\w+)\}\}", log)), rule


def test_what_is_edited_at_the_top_arrives_at_the_jobs():
    profile = read("slurm", account=1234, gpu_partition="all", gpu_model="a100", training_hours=48)
    assert profile["default-resources"]["slurm_account"] == "'1234'"
    assert "slurm_partition" not in profile["default-resources"]
    for rule in JOBS:
        asked = profile["set-resources"].get(rule, {})
        on_gpu = rule in ON_GPU
        assert asked.get("slurm_partition") == ("'all'" if on_gpu else None)
        assert asked.get("gpu_model") == ("'a100'" if on_gpu else None)
    runtime = profile["set-resources"]["train"]["runtime"]
    assert [eval(runtime, {"attempt": n}) // 60 for n in (1, 2)] == [48, 72]  # of longest_hours


def test_without_edits_nothing_is_asked_that_a_cluster_may_not_know():
    profile = read("slurm")
    asked = [profile["default-resources"], *profile["set-resources"].values()]
    assert {name for resources in asked for name in resources} == {"mem_mb", "runtime"}


@pytest.mark.parametrize("attempt", [1, 2])  # and the third is the last
def test_every_attempt_asks_for_more(attempt):
    profile = read("slurm")
    for resources in [profile["default-resources"], *profile["set-resources"].values()]:
        for expression in resources.values():
            asked = [eval(expression, {"attempt": n}) for n in (attempt, attempt + 1)]
            assert asked[0] < asked[1]
    assert profile["retries"] == 2


def test_both_lock_files_pin_the_same_releases():
    def pins(name):
        text = (ROOT / name).read_text()
        return dict(re.findall(r"^([a-z0-9.-]+)==([^\\]+?) *\\$", text, re.MULTILINE))

    tested, slurm = pins("requirements.lock"), pins("requirements-slurm.lock")
    plugins = {"snakemake-executor-plugin-slurm", "snakemake-executor-plugin-slurm-jobstep"}
    assert set(slurm) - set(tested) == plugins
    assert plugins.isdisjoint(tested)
    for name in set(slurm) & set(tested):
        assert slurm[name] == tested[name], name
    extra = (ROOT / "pyproject.toml").read_text()
    assert "snakemake-executor-plugin-slurm==2.8.*" in extra
