"""Outputs that were truncated or changed outside of the workflow.

The next program that reads one names the file in one line, or gives the same result. Following
the advice in that line restores the results.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import ROOT, Workflow
from whole_files import damaged

from aggregate_results import aggregate_results
from evaluate_target import evaluate_target
from nontrivial.errors import UserError
from nontrivial.formats.canonical import file_digest
from nontrivial.formats.dataset import read_description
from nontrivial.planning.configuration import complete, read_schema
from nontrivial.planning.plan import Plan
from plot_learning import plot_learning
from plot_slices import plot_slices
from predict_examples import predict_examples
from predict_targets import predict_targets
from summarize_dataset import summarize_dataset
from tabulate_targets import tabulate_targets
from train_network import train_network

DIGITS, T1 = Path("results/data/digits"), Path("results/data/t1")
NETWORK, T1_NETWORK = (
    Path(f"results/networks/{n}/seed0") for n in ("digits-resnet18", "t1-pspnet")
)
ZERO, T1_ZERO = Path("results/digits/seed0/zero"), Path("results/t1/seed0/zero")
TARGETS = Path("results/digits/zero/targets")
SUMMARY, ACROSS_SEEDS = Path("results/summary.parquet"), Path("results/across_seeds.parquet")
MARGINS = Path("results/margins.parquet")
TARGET = "layer-layer1.0.conv1"


def flipped(content, part=2):
    position = len(content) // part
    return content[:position] + bytes([content[position] ^ 0x15]) + content[position + 1 :]


DAMAGES = {
    "nothing left": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "less a byte": lambda content: content[:-1],
    "a byte flipped": flipped,
    "an early byte flipped": lambda content: flipped(content, 10),
}


@pytest.fixture(scope="module")
def copied(finished_once, tmp_path_factory):
    """Return a copy of the finished run that each test leaves unchanged."""
    folder = tmp_path_factory.mktemp("truncated") / "workflow"
    shutil.copytree(finished_once.folder, folder)
    return Workflow(folder)


@pytest.fixture
def plan(copied, monkeypatch):
    monkeypatch.chdir(copied.folder)
    return Plan(complete(copied.config, read_schema(ROOT / "config" / "schema.yaml")), Path("."))


def train(plan, out):
    train_network(
        json.loads(plan.training_settings("digits-resnet18")),
        seed=0,
        data=DIGITS,
        kernels=plan.structure("digits-resnet18"),
        output=out / "model.safetensors",
        snapshots=out / "snapshots.safetensors",
        digest=out / "model.json",
        history=out / "training.parquet",
        code="",
        checkpoint_minutes=10,
    )


def predict(plan, out):
    predict_targets(
        json.loads(plan.prediction_settings("digits")),
        DIGITS,
        NETWORK / "model.safetensors",
        Path(plan.kernel_table("digits-resnet18")),
        Path(plan.batches("digits")["baseline"].path),
        out / "baseline.parquet",
        out / "baseline.json",
    )


def show(plan, out):
    predict_examples(
        json.loads(plan.example_settings("t1")),
        T1,
        T1_NETWORK / "model.safetensors",
        Path(plan.example_targets("t1").path),
        out / "examples.parquet",
    )


def evaluate(plan, out):
    evaluate_target(
        json.loads(plan.evaluation_settings("digits", TARGET)),
        [ZERO / "predictions/layers.parquet"],
        TARGET,
        [ZERO / "predictions/baseline.parquet"],
        DIGITS / "test/samples.parquet",
        DIGITS / "dataset.json",
        out / "target.parquet",
    )


def aggregate(plan, out):
    outputs = [out / path.name for path in (SUMMARY, ACROSS_SEEDS, MARGINS)]
    aggregate_results(Path(plan.target_list().path), *outputs)


def tabulate(plan, out):
    names = (out / f"table.{kind}" for kind in ("csv", "md", "html"))
    tabulate_targets({"experiment": "digits"}, SUMMARY, ACROSS_SEEDS, MARGINS, *names)


def draw_learning(plan, out):
    settings = plan.figure_settings(training="digits-resnet18", seeds=[0])
    history = [NETWORK / "training.parquet"]
    files = out / "curve.svg", out / "curve.png"
    plot_learning(json.loads(settings), DIGITS / "dataset.json", history, *files)


def draw_slices(plan, out):
    settings = plan.figure_settings(experiment="t1", targets=plan.example_names("t1"))
    files = out / "slices.svg", out / "slices.png"
    examples = T1_ZERO / "examples.parquet"
    plot_slices(json.loads(settings), T1 / "dataset.json", examples, *files)


def summarize(plan, out):
    summarize_dataset("t1", T1, out / "summary.md", out / "summary.png")


def digests(folder):
    return {path.name: file_digest(path) for path in folder.iterdir() if path.is_file()}


def error_of(function, *arguments):
    """Return the message of a function's UserError, or None without one."""
    try:
        function(*arguments)
    except UserError as error:
        return str(error)
    return None


READ = [
    (DIGITS / "train/images.npy", train),
    (DIGITS / "train/labels.npy", train),
    (DIGITS / "val/images.npy", train),
    (DIGITS / "test/images.npy", predict),
    (DIGITS / "test/labels.npy", predict),
    (DIGITS / "test/samples.parquet", evaluate),
    (DIGITS / "dataset.json", evaluate),
    (T1 / "test/images.npy", show),
    (T1 / "test/samples.parquet", show),
    (T1 / "preparation.json", summarize),
    (T1 / "val/samples.parquet", summarize),
    (NETWORK / "model.safetensors", predict),
    (T1_NETWORK / "model.safetensors", show),
    (NETWORK / "training.parquet", draw_learning),
    (ZERO / "predictions/layers.parquet", evaluate),
    (ZERO / "predictions/baseline.parquet", evaluate),
    (TARGETS / f"{TARGET}.parquet", aggregate),
    (T1_ZERO / "examples.parquet", draw_slices),
    (SUMMARY, tabulate),
    (ACROSS_SEEDS, tabulate),
    (MARGINS, tabulate),
]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "read"), READ, ids=lambda value: getattr(value, "__name__", None))
def test_a_damaged_file_is_named_or_changes_nothing(copied, plan, tmp_path, path, read):
    whole = path.read_bytes()
    wanted = None
    try:
        for number, (damage, spoil) in enumerate(DAMAGES.items()):
            path.write_bytes(spoil(whole))
            out = tmp_path / str(number)
            out.mkdir()
            if message := error_of(read, plan, out):
                assert str(path) in message, damage
                assert "\n" not in message
                assert re.search("delete it|again", message), message
                assert digests(out) == {}, damage
                continue
            # Only a missing final newline, or a byte without meaning, may go unnoticed.
            assert damage not in ("nothing left", "half")
            found = digests(out)
            if wanted is None:
                path.write_bytes(whole)
                right = tmp_path / "right"
                right.mkdir()
                read(plan, right)
                wanted = digests(right)
            assert found == wanted, damage
    finally:
        path.write_bytes(whole)


def test_a_description_with_one_byte_changed_is_equal_or_refused(copied, tmp_path):
    whole = copied.path(str(DIGITS / "dataset.json")).read_bytes()
    original = read_description(copied.path(str(DIGITS / "dataset.json")))
    path = tmp_path / "dataset.json"
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= (0x01, 0x04, 0xFF)[position % 3]
        path.write_bytes(content)
        refused = error_of(read_description, path)
        if refused is None:
            assert read_description(path) == original, position
        else:
            assert str(path) in refused
            assert "\n" not in refused


# Through Snakemake: new jobs read damaged files, which are deleted as the message advises. The
# copies for reuse are hard links, so they are damaged too.


@pytest.fixture
def linked(finished_once, tmp_path):
    """Return a copy of the finished run with its hard links between results and their copies."""
    folder = tmp_path / "workflow"
    subprocess.run(["cp", "-a", finished_once.folder, folder], check=True)
    kept = folder / NETWORK / ".kept/model.safetensors"
    assert os.path.samefile(kept, folder / NETWORK / "model.safetensors")
    return Workflow(folder)


def rows_of(workflow, targets):
    rows = pq.read_table(workflow.path(str(SUMMARY))).to_pylist()
    # Holm's correction and the order depend on the number of targets.
    return [{**row, "p_holm": None} for row in rows if row["target"] in targets]


def spoil(path, damage):
    """Damage a file as a disk would: its times do not change."""
    status = path.stat()
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.slow
def test_damaged_files_are_named_before_a_result_uses_them_and_can_be_made_again(linked):
    targets = {row["target"] for row in pq.read_table(linked.path(str(SUMMARY))).to_pylist()}
    before = rows_of(linked, targets)
    config = linked.config
    config["experiments"]["digits"]["named_sets"] = {"mine": ["layer3.*.conv2"]}
    linked.config = config
    named_set = str(TARGETS / "set-mine.parquet")
    for name, wanted, damage in (
        (TARGETS / f"{TARGET}.parquet", str(SUMMARY), "a byte flipped"),
        (ZERO / "predictions/baseline.parquet", named_set, "an early byte flipped"),
        (NETWORK / "model.safetensors", named_set, "a byte flipped"),
        (DIGITS / "test/images.npy", named_set, "a byte flipped"),
    ):
        for path in linked.path("results/digits").rglob("*mine*"):
            path.unlink()
        spoil(linked.path(str(name)), damage)
        done = linked.snakemake("--cores", "2", wanted)
        printed = done.stdout + done.stderr
        assert done.returncode != 0, name
        assert re.search(rf"^error: .*{re.escape(str(name))}: .*$", printed, re.MULTILINE), printed
        assert "Traceback" not in printed
        linked.path(str(name)).unlink()
    linked.run()
    assert rows_of(linked, targets) == before
    assert damaged(linked.path("results")) == []
    assert linked.stale() == set()


@pytest.mark.slow
def test_damaged_copies_are_not_reused_and_a_damaged_list_of_targets_is_written_again(linked):
    predictions = linked.path(str(ZERO / "predictions/baseline.parquet"))
    digest = predictions.with_suffix(".json")
    before = pq.read_table(predictions), digest.read_text()
    spoil(predictions.parent / ".kept" / predictions.name, "a byte flipped")
    predictions.unlink(missing_ok=True)
    digest.unlink()
    spec = min(linked.path("results/specs").glob("*.json"))
    text = spec.read_text()
    spec.write_bytes(text.encode()[:-9] + b"\xff")
    linked.run(str(digest.relative_to(linked.folder)))
    assert (pq.read_table(predictions), digest.read_text()) == before
    assert spec.read_text() == text
