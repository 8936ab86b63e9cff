import dataclasses
import json

import pytest

from nontrivial.errors import UserError
from nontrivial.formats.dataset import DIGEST, Description, read_description

DESCRIPTION = Description(
    task="segmentation",
    classes=["background", "hippocampus"],
    channels=1,
    size=(64, 48),
    dtype="float32",
    mean=[0.25],
    std=[0.125],
    counts={"train": 8, "val": 2, "test": 3},
    sha256={"train/images.npy": "ab", "train/labels.npy": "cd"},
    demonstration=True,
)


def test_a_description_reads_back_as_written(tmp_path):
    path = tmp_path / "dataset.json"
    path.write_text(DESCRIPTION.to_json())
    assert read_description(path) == DESCRIPTION


def test_equal_descriptions_have_equal_text():
    reordered = {name: DESCRIPTION.counts[name] for name in ("test", "val", "train")}
    assert dataclasses.replace(DESCRIPTION, counts=reordered).to_json() == DESCRIPTION.to_json()


def test_the_factory_gets_classes_channels_and_size():
    assert DESCRIPTION.factory_arguments == (2, 1, (64, 48))


def edited(**changes):
    return json.dumps(json.loads(DESCRIPTION.to_json()) | changes)


def without(key):
    content = json.loads(DESCRIPTION.to_json())
    del content[key], content[DIGEST]
    return json.dumps(content)


def test_a_description_without_a_digest_is_read(tmp_path):
    content = json.loads(DESCRIPTION.to_json())
    del content[DIGEST]
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    assert read_description(path) == DESCRIPTION


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (edited(channels=3), "its content does not match its digest"),
        (edited(digest=""), "its content does not match its digest"),
        (DESCRIPTION.to_json()[:-3], "JSONDecodeError"),
        ("[]", "TypeError"),
        (without("normalization"), "KeyError"),
        (without("counts"), "KeyError"),
    ],
)
def test_a_damaged_description_is_refused_in_one_line(tmp_path, text, problem):
    path = tmp_path / "dataset.json"
    path.write_text(text)
    with pytest.raises(UserError, match="not a description of a prepared data set") as caught:
        read_description(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert problem in message
    assert "delete it" in message
    assert "\n" not in message


def test_a_missing_description(tmp_path):
    with pytest.raises(UserError, match=r"dataset\.json: cannot be read \(No such file"):
        read_description(tmp_path / "dataset.json")
