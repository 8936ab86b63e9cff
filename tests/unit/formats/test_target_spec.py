import json

import pytest

from nontrivial.errors import UserError
from nontrivial.formats.target_spec import TargetSpec, read_list, read_spec


def write(path, *targets):
    content = {"targets": [{"name": name, "kernels": kernels} for name, kernels in targets]}
    path.write_text(json.dumps(content))
    return path


def test_targets_keep_their_order(tmp_path):
    path = write(tmp_path / "spec.json", ("b", ["x"]), ("baseline", []), ("a", ["y", "x"]))
    assert read_spec(path, {"x", "y"}) == [
        TargetSpec("b", ("x",)),
        TargetSpec("baseline", ()),
        TargetSpec("a", ("y", "x")),
    ]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], "no target"),
        ([("a", ["z"])], "a: the network has no kernel z"),
        ([("a", ["x"]), ("a", ["y"])], "target a is listed twice"),
        ([("a", ["x", "y"]), ("b", ["y", "x"])], "targets a and b zero the same kernels"),
        ([("baseline", []), ("set-none", [])], "targets baseline and set-none zero the same"),
    ],
)
def test_an_invalid_spec_is_refused(tmp_path, targets, message):
    path = write(tmp_path / "spec.json", *targets)
    with pytest.raises(UserError, match=message):
        read_spec(path, {"x", "y"})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"targets": [1]}', '{"targets": 3}', "{}"])
def test_a_file_that_is_no_spec_is_refused(tmp_path, text):
    path = tmp_path / "spec.json"
    path.write_text(text)
    with pytest.raises(UserError, match="not a list of targets"):
        read_spec(path, set())
    with pytest.raises(UserError, match="cannot be read"):
        read_spec(tmp_path / "none.json", set())


def test_a_list_of_files_keeps_its_order(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"files": ["b", "a"]}))
    assert [file.name for file in read_list(path)] == ["b", "a"]
