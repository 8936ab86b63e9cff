import json
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import list_kernels
from evaluate_target import PREDICTED
from nontrivial.errors import UserError
from nontrivial.formats import samples, weights
from nontrivial.formats.dataset import SPLITS, Description
from nontrivial.formats.predictions import METADATA, REPORT, SCHEMAS, read_target
from nontrivial.networks.building import build
from nontrivial.networks.kernel_table import read_table, structure_digest, write_table
from predict_examples import predict_examples
from predict_targets import predict_targets

SIZE = (16, 16)
COUNT = 7
CHANNELS = 2
TARGETS = {
    "baseline": [],
    "layer-stem": ["stem"],
    "layer-left": ["left"],
    "block-1-none": ["left", "right"],
}

NETWORKS = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self, classes, channels, dense):
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.left = nn.Conv2d(4, 4, 3, padding=1)
        self.right = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Conv2d(4, classes, 1)
        self.dense = dense

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = self.drop(x + torch.relu(self.left(x)) + torch.relu(self.right(x)))
        x = self.head(x)
        return x if self.dense else x.mean((2, 3))

def classifier(classes, channels, size):
    return Small(classes, channels, False)

def segmenter(classes, channels, size):
    return Small(classes, channels, True)

class Hungry(Small):
    def forward(self, x):
        if len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(x)

def hungry(classes, channels, size):
    return Hungry(classes, channels, False)

class Starved(Small):
    def forward(self, x):
        if len(x) > 4:
            torch.empty(1 << 60, dtype=torch.uint8)
        return super().forward(x)

def starved(classes, channels, size):
    return Starved(classes, channels, False)

class Forgetful(Small):
    def forward(self, x):
        self.norm.running_mean += 1
        return super().forward(x)

def forgetful(classes, channels, size):
    return Forgetful(classes, channels, False)
"""


class Project:
    """A folder with prepared data, a trained custom network and a spec."""

    def __init__(self, folder, function):
        self.folder = folder
        self.factory = f"project_networks:{function}"
        self.task = "segmentation" if function == "segmenter" else "classification"
        self.classes = 3
        rng = np.random.default_rng(0)
        for split in SPLITS:
            (folder / split).mkdir()
            images = rng.normal(2, 3, (COUNT, CHANNELS, *SIZE)).astype(np.float32)
            np.save(folder / split / "images.npy", images)
            if self.task == "segmentation":
                labels = rng.integers(0, self.classes, (COUNT, *SIZE), dtype=np.uint8)
            else:
                labels = rng.integers(0, self.classes, COUNT)
            np.save(folder / split / "labels.npy", labels)
            rows = [samples.Sample("made", f"person{n // 3}", n % 3) for n in range(COUNT)]
            samples.write(folder / split / "samples.parquet", rows)
        self.description = Description(
            task=self.task,
            classes=list("abc"),
            channels=CHANNELS,
            size=SIZE,
            dtype="float32",
            mean=[2.0, 1.0],
            std=[3.0, 2.0],
            counts=dict.fromkeys(SPLITS, COUNT),
            sha256={},
        )
        (folder / "dataset.json").write_text(self.description.to_json())
        self.kernels = folder / "kernels.tsv"
        write_table(
            self.kernels, list_kernels.list_kernels(None, self.factory, SIZE, channels=CHANNELS)
        )
        torch.manual_seed(0)
        self.network = build("small", self.factory, self.classes, CHANNELS, SIZE)
        self.model = folder / "model.safetensors"
        self.save()
        self.spec(TARGETS)

    def save(self, **metadata):
        digest = structure_digest(read_table(self.kernels))
        weights.save(self.network, self.model, {"kernels": digest, **metadata})

    def spec(self, targets):
        entries = [{"name": name, "kernels": kernels} for name, kernels in targets.items()]
        (self.folder / "spec.json").write_text(json.dumps({"targets": entries}))

    def settings(self, **changed):
        return {
            "network": {"name": "small", "factory": self.factory},
            "precision": "fp32",
            "batch_size": 3,
            "split": "test",
            **changed,
        }

    def predict(self, name="predictions", **changed):
        output, digest = self.folder / f"{name}.parquet", self.folder / f"{name}.json"
        predict_targets(
            self.settings(**changed),
            self.folder,
            self.model,
            self.kernels,
            self.folder / "spec.json",
            output,
            digest,
            threads=1,
        )
        return output, json.loads(digest.read_text())["sha256"]

    def expected(self, kernels):
        """Return logits of the whole test split with a copy of the network, zeroed by hand."""
        network = build("small", self.factory, self.classes, CHANNELS, SIZE)
        state = self.network.state_dict()
        state = {
            name: torch.zeros_like(t) if name.removesuffix(".weight") in kernels else t
            for name, t in state.items()
        }
        network.load_state_dict(state)
        images = np.load(self.folder / "test" / "images.npy")
        mean, std = (np.array(v, np.float32)[:, None, None] for v in ([2.0, 1.0], [3.0, 2.0]))
        with torch.inference_mode():
            return network.eval()(torch.from_numpy((images - mean) / std)).numpy()


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "project_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    yield lambda function: Project(tmp_path, function)
    sys.modules.pop("project_networks", None)


def test_classification_stores_the_prediction_of_each_sample(project):
    made = project("classifier")
    output, _ = made.predict()
    labels = np.load(made.folder / "test" / "labels.npy")
    for target, kernels in TARGETS.items():
        logits = made.expected(kernels)
        columns = [*PREDICTED["classification"], "margin"]
        _, got = read_target(output, target, "classification", columns)
        np.testing.assert_array_equal(got["sample"], np.arange(COUNT))
        np.testing.assert_array_equal(got["predicted"], logits.argmax(axis=1))
        ranked = np.sort(logits, axis=1)
        np.testing.assert_allclose(got["margin"], ranked[:, -1] - ranked[:, -2], atol=1e-5)
        shifted = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(got["log_prob"], shifted[np.arange(COUNT), labels], atol=1e-5)


def test_segmentation_stores_counts_of_every_class(project):
    made = project("segmenter")
    output, _ = made.predict()
    masks = np.load(made.folder / "test" / "labels.npy")
    columns = PREDICTED["segmentation"]
    for target, kernels in TARGETS.items():
        predicted = made.expected(kernels).argmax(axis=1)
        _, got = read_target(output, target, "segmentation", columns)
        np.testing.assert_array_equal(got["sample"], np.repeat(np.arange(COUNT), 3))
        np.testing.assert_array_equal(got["class"], np.tile(np.arange(3), COUNT))
        for k in range(3):
            said, true = predicted == k, masks == k
            rows = got["class"] == k
            np.testing.assert_array_equal(got["tp"][rows], (said & true).sum(axis=(1, 2)))
            np.testing.assert_array_equal(got["fp"][rows], (said & ~true).sum(axis=(1, 2)))
            np.testing.assert_array_equal(got["fn"][rows], (~said & true).sum(axis=(1, 2)))


def test_the_file_is_as_designed(project):
    output, _ = project("classifier").predict()
    file = pq.ParquetFile(output)
    assert file.schema_arrow.equals(SCHEMAS["classification"])
    groups = [file.read_row_group(n).column("target").unique().to_pylist() for n in range(4)]
    assert groups == [[name] for name in TARGETS]
    about = json.loads(file.schema_arrow.metadata[METADATA.encode()])
    assert list(about["targets"]) == list(TARGETS)
    statuses = {name: entry["status"] for name, entry in about["targets"].items()}
    assert statuses == {**dict.fromkeys(TARGETS, "ok"), "layer-stem": "cut"}
    stem = about["targets"]["layer-stem"]
    assert stem["live_weights"] == stem["total_weights"] == 9 * 4 * CHANNELS
    assert {"device", "threads", "precision", "versions"} <= set(about["provenance"])
    report = json.loads(file.metadata.metadata[REPORT.encode()])
    assert report["method"] == "torch.fx"
    assert report["samples"] == COUNT
    assert report["samples_per_second"] > 0
    assert report["peak_memory_bytes"] > 2**20
    macs = report["multiply_accumulates_per_sample"]
    assert 0 < macs["clean"] + macs["recomputed"] < macs["passes"]


def test_equal_inputs_give_equal_digests_and_other_weights_another(project):
    made = project("segmenter")
    _, first = made.predict("first")
    _, second = made.predict("second")
    assert first == second
    with torch.no_grad():
        made.network.head.bias += torch.tensor([9.0, 0.0, 0.0])
    made.save()
    _, third = made.predict("third")
    assert third != first


def other_weights(made):
    with torch.no_grad():
        made.network.head.bias += 1
    made.save()


def damage_kept(made):
    path = made.folder / ".kept/predictions.parquet"
    content = bytearray(path.read_bytes())
    content[40] ^= 1  # in the first page
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("before", "changed", "kept"),
    [
        (lambda made: None, {}, True),
        (lambda made: None, {"batch_size": 2}, False),
        (other_weights, {}, False),
        (lambda made: made.spec({"baseline": []}), {}, False),
        (damage_kept, {}, False),
        (lambda made: (made.folder / ".kept/predictions.parquet").unlink(), {}, False),
    ],
)
def test_predictions_of_the_same_inputs_are_reused(project, before, changed, kept):
    made = project("classifier")
    path, _ = made.predict()
    first = path.stat().st_ino  # a file written anew is another file
    held = path.open("rb")  # and no other file gets its inode number meanwhile
    before(made)
    path.unlink()  # Snakemake removes outputs before a job
    made.predict(**changed)
    assert (path.stat().st_ino == first) == kept
    held.close()


def test_the_status_is_part_of_the_digest(project):
    made = project("classifier")
    made.spec({"a": ["left"]})
    _, first = made.predict("first")
    made.spec({"b": ["left"]})
    _, second = made.predict("second")
    assert first != second


def test_bf16_predictions_are_close_to_fp32(project):
    made = project("classifier")
    margins = []
    for precision in ("fp32", "bf16"):
        output, _ = made.predict(precision, precision=precision)
        _, columns = read_target(output, "baseline", "classification", ["margin"])
        margins.append(columns["margin"])
    assert not np.array_equal(*margins)
    np.testing.assert_allclose(*margins, atol=0.05)


def test_bf16_records_how_many_predictions_it_changes(project):
    made = project("segmenter")
    # Two classes that only full precision tells apart.
    head = made.network.head
    head.weight.data[1] = head.weight.data[0]
    head.bias.data[:] = torch.tensor([0.0, 1e-5, -9.0])
    made.save()
    report = {
        precision: json.loads(
            pq.ParquetFile(made.predict(precision, precision=precision)[0]).metadata.metadata[
                REPORT.encode()
            ]
        )
        for precision in ("fp32", "bf16")
    }
    assert "against_fp32" not in report["fp32"]
    compared = report["bf16"]["against_fp32"]
    assert compared["samples"] == COUNT
    assert compared["predictions"] == COUNT * SIZE[0] * SIZE[1] * len(TARGETS)
    assert 0 < compared["flipped"] < compared["predictions"]


def poison(made):
    made.network.head.bias.data[0] = float("nan")
    made.save()


def relabel_class(made):
    labels = np.load(made.folder / "test" / "labels.npy")
    labels[3] = 3
    np.save(made.folder / "test" / "labels.npy", labels)


def drop_image(made):
    images = np.load(made.folder / "test" / "images.npy")
    np.save(made.folder / "test" / "images.npy", images[1:])


def forget_metadata(made):
    weights.save(made.network, made.model, {})


def other_table(made):
    write_table(made.kernels, read_table(made.kernels)[:-1])


def cut_short(made):
    content = made.model.read_bytes()
    made.model.write_bytes(content[: len(content) // 2])


def no_samples(made):
    empty = replace(made.description, counts={**made.description.counts, "test": 0})
    (made.folder / "dataset.json").write_text(empty.to_json())


@pytest.mark.parametrize(
    ("spoil", "changed", "message"),
    [
        (poison, {}, "output of the network is not finite"),
        (relabel_class, {}, "labels: a value is not below the number of classes, 3"),
        (drop_image, {}, r"test split has images \(6, 2, 16, 16\)"),
        (forget_metadata, {}, "trained with another kernel table"),
        (other_table, {}, "trained with another kernel table"),
        (cut_short, {}, "not a complete safetensors file"),
        (no_samples, {}, "test split is empty"),
        (None, {"split": "exam"}, "split: 'exam' is not one of train, val, test"),
        (None, {"precision": "fp8"}, "precision: 'fp8' is not one of fp32, bf16"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_no_file(project, spoil, changed, message):
    made = project("classifier")
    if spoil:
        spoil(made)
    before = set(made.folder.iterdir())
    with pytest.raises(UserError, match=message) as caught:
        made.predict(**changed)
    assert "\n" not in str(caught.value)
    assert set(made.folder.iterdir()) == before


@pytest.mark.parametrize("function", ["hungry", "starved"])
def test_out_of_memory_says_to_lower_the_batch_size(project, function):
    made = project(function)
    with pytest.raises(UserError, match="ran out of memory with batch_size 6; lower batch_size"):
        made.predict(batch_size=6)
    assert not (made.folder / "predictions.parquet").exists()
    made.predict(batch_size=3)


def test_a_network_that_changes_while_it_predicts_is_refused(project):
    made = project("forgetful")
    with pytest.raises(UserError, match="changes its own parameters or buffers"):
        made.predict()
    assert not (made.folder / "predictions.parquet").exists()


def test_logits_of_another_shape_are_refused(project):
    made = project("segmenter")
    made.factory = "project_networks:classifier"
    with pytest.raises(UserError, match=r"returns \(3, 3\) for segmentation, not \(3, 3, 16, 16\)"):
        made.predict()


def test_examples_hold_image_truth_and_prediction(project):
    made = project("segmenter")
    output = made.folder / "examples.parquet"
    settings = made.settings(subjects=2)
    predict_examples(settings, made.folder, made.model, made.folder / "spec.json", output)
    rows = pq.read_table(output).to_pylist()
    assert [row["target"] for row in rows] == [name for name in TARGETS for _ in range(2)]
    masks = np.load(made.folder / "test" / "labels.npy")
    foreground = np.count_nonzero(masks, axis=(1, 2))
    assert [row["sample"] for row in rows[:2]] == [
        int(foreground[:3].argmax()),
        3 + int(foreground[3:6].argmax()),
    ]
    for row in rows:
        shape = (row["height"], row["width"])
        image, truth, predicted = (
            np.frombuffer(row[name], np.uint8).reshape(shape)
            for name in ("image", "truth", "predicted")
        )
        assert (image.min(), image.max()) == (0, 255)
        np.testing.assert_array_equal(truth, masks[row["sample"]])
        wanted = made.expected(TARGETS[row["target"]])[row["sample"]].argmax(axis=0)
        np.testing.assert_array_equal(predicted, wanted)


def test_examples_use_the_given_number_of_threads(project, monkeypatch):
    used = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    made = project("segmenter")
    spec, output = made.folder / "spec.json", made.folder / "examples.parquet"
    predict_examples(made.settings(subjects=2), made.folder, made.model, spec, output, threads=3)
    assert used == [3]


def test_examples_are_for_segmentation(project):
    made = project("classifier")
    with pytest.raises(UserError, match="example slices need a segmentation"):
        predict_examples(
            made.settings(subjects=2),
            made.folder,
            made.model,
            made.folder / "spec.json",
            made.folder / "examples.parquet",
        )
