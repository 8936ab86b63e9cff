"""Zeroing targets: their names, order, aliases and batches."""

import functools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nontrivial.errors import UserError
from nontrivial.networks.kernel_table import Kernel, read_table
from nontrivial.networks.registry import NETWORKS
from nontrivial.targets.adjacency import READINGS
from nontrivial.targets.enumeration import BATCH_BY, SETS, batches, enumerate_targets

TABLES = Path(__file__).parents[3] / "resources" / "kernels"
ALL_SETS = list(SETS)


@functools.cache
def table(name):
    return read_table(TABLES / NETWORKS[name].table)


RESNET34 = table("resnet34")
PATHS = [kernel.path for kernel in RESNET34]


def enumerated(name="resnet34", sets=ALL_SETS, readings=("first-unit",), named=None, by="set"):
    return enumerate_targets(table(name), list(sets), list(readings), named or {}, by)


def by_name(targets):
    return {target.name: target for target in targets}


def contents(targets):
    """Return the content of every batch: names and kernels, in order."""
    return {
        batch: [(target.name, target.kernels) for target in members]
        for batch, members in batches(targets).items()
    }


def test_resnet34_has_the_papers_43_targets_and_40_networks():
    targets = enumerated()
    kinds = [target.kind for target in targets]
    assert kinds == ["baseline"] + 36 * ["layer"] + 4 * ["block"] + 3 * ["shortcut"]
    assert len({target.kernels for target in targets} - {()}) == 40
    assert [len(target.kernels) for target in targets if target.kind == "block"] == [4, 6, 10, 4]


def test_first_unit_keeps_the_first_unit_of_the_block():
    assert by_name(enumerated())["block-1-first-unit"].kernels == (
        "layer1.1.conv1",
        "layer1.1.conv2",
        "layer1.2.conv1",
        "layer1.2.conv2",
    )


def test_next_differs_from_first_unit_only_in_block_1():
    targets = by_name(enumerated(readings=READINGS))
    for block in (2, 3, 4):
        assert targets[f"block-{block}-next"].stored_as == f"block-{block}-first-unit"
    assert targets["block-1-next"].stored_as == "block-1-next"


def test_a_block_with_nothing_to_zero_has_no_target():
    names = by_name(enumerated("resnet50", readings=["both-sides"]))
    assert "block-1-both-sides" not in names
    assert "block-2-both-sides" in names


def test_shortcuts_are_aliases_of_layers():
    targets = by_name(enumerated())
    shortcut = targets["shortcut-2"]
    assert shortcut.stored_as == "layer-layer2.0.downsample.0"
    assert (shortcut.role, shortcut.block, shortcut.order) == ("shortcut", 2, 9)


def test_each_set_is_a_batch_and_shortcuts_are_predicted_with_layers():
    found = contents(enumerated(named={"mine": ["layer3.*"]}, readings=["next", "none"]))
    assert {batch: len(members) for batch, members in found.items()} == {
        "baseline": 1,
        "layers": 36,
        "blocks-next": 4,
        "blocks-none": 4,
        "set-mine": 1,
    }


def test_shortcuts_without_layers_are_a_batch():
    assert set(contents(enumerated(sets=["shortcut"]))) == {"baseline", "shortcuts"}


def test_a_named_set_that_repeats_a_layer_is_not_predicted():
    targets = enumerated(named={"stem": ["conv1"]})
    assert by_name(targets)["set-stem"].batch == "layers"
    assert "set-stem" not in contents(targets)


def test_a_batch_includes_what_another_reading_has_too():
    found = contents(enumerated(sets=["block"], readings=["first-unit", "next"]))
    assert [name for name, _ in found["blocks-next"]] == [f"block-{n}-next" for n in (1, 2, 3, 4)]


def test_batch_by_target_predicts_each_kernel_set_once():
    found = contents(enumerated(readings=READINGS, by="target"))
    assert all(len(members) == 1 for members in found.values())
    kernels = [members[0][1] for members in found.values()]
    assert len(set(kernels)) == len(kernels)
    assert all(members[0][0] == batch for batch, members in found.items())


def test_resnet50_has_a_shortcut_in_block_1():
    assert "shortcut-1" in by_name(enumerated("resnet50"))


def test_the_layers_of_a_pspnet_include_pyramid_and_head():
    layers = [target for target in enumerated("pspnet_resnet34") if target.kind == "layer"]
    assert len(layers) == 42
    assert sum(target.role == "head" and target.block is None for target in layers) == 6


def test_baseline_comes_first_and_always():
    first = enumerated(sets=[])[0]
    assert (first.name, first.kind, first.kernels, first.order) == (
        "baseline",
        "baseline",
        (),
        None,
    )
    assert first.batch == "baseline"


def test_two_shortcuts_of_one_block_have_two_names():
    kernels = [
        Kernel(0, "a", 3, 8, "3x3", "1x1", "1x1", 1, False, 1, 1, 0, "decomposition"),
        Kernel(1, "b.shortcut", 3, 8, "1x1", "1x1", "1x1", 1, False, 1, 1, 0, "shortcut"),
        Kernel(2, "c.shortcut", 3, 8, "1x1", "1x1", "1x1", 1, False, 1, 1, 1, "shortcut"),
    ]
    names = [t.name for t in enumerate_targets(kernels, ["shortcut"], [], {}, "set")]
    assert names == ["baseline", "shortcut-1-b.shortcut", "shortcut-1-c.shortcut"]


def test_named_sets_take_paths_and_globs_in_forward_order():
    targets = by_name(enumerated(named={"ends": ["layer4.2.*", "conv1", "layer4.2.conv1"]}))
    ends = targets["set-ends"]
    assert ends.kernels == ("conv1", "layer4.2.conv1", "layer4.2.conv2")
    assert (ends.kind, ends.order, ends.role, ends.block) == ("set", 0, None, None)
    assert ends.batch == "set-ends"


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["layer1.0.conv9"], r"'broken'.*layer1\.0\.conv9.*Similar paths: .*layer1\.0\.conv"),
        (["layer9.*"], r"'broken'.*glob 'layer9\.\*' matches no kernel.*Similar paths: layer"),
        (["layer1.0"], r"'broken'.*layer1\.0 is not a kernel but contains kernels.*layer1\.0\.\*"),
        ([], "'broken' is empty"),
    ],
)
def test_a_named_set_that_matches_nothing_is_refused(patterns, message):
    with pytest.raises(UserError, match=message):
        enumerated(named={"broken": patterns})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sets": ["layers"]}, "sets: 'layers'"),
        ({"readings": ["first"]}, "readings: 'first'"),
        ({"by": "layer"}, "batch_by: 'layer'"),
    ],
)
def test_an_unknown_word_is_refused(changed, message):
    with pytest.raises(UserError, match=message):
        enumerated(**changed)


networks = st.sampled_from(sorted(NETWORKS))
set_lists = st.lists(st.sampled_from(SETS), unique=True)
reading_lists = st.lists(st.sampled_from(READINGS), unique=True)


patterns = st.sampled_from(["*conv1", "*layer1.0.conv2", "*layer2.1.*", "*layer3.*.conv2"])
named_sets = st.dictionaries(
    st.sampled_from("abcd"), st.lists(patterns, min_size=1, max_size=3), max_size=3
)


@settings(deadline=None)
@given(sets=set_lists, readings=reading_lists, named=named_sets, by=st.sampled_from(BATCH_BY))
def test_the_predictions_of_every_target_are_where_it_says(sets, readings, named, by):
    targets = enumerate_targets(RESNET34, sets, readings, named, by)
    names = by_name(targets)
    found = contents(targets)
    assert len(names) == len(targets)
    for target in targets:
        original = names[target.stored_as]
        assert original.kernels == target.kernels
        assert original.stored_as == original.name
        assert (original.name, original.kernels) in found[target.batch]
        assert list(target.kernels) == [path for path in PATHS if path in target.kernels]
    originals = [target for target in targets if target.stored_as == target.name]
    assert len({target.kernels for target in originals}) == len(originals)
    for members in found.values():
        assert len({kernels for _, kernels in members}) == len(members)


@settings(deadline=None)
@given(sets=set_lists, readings=reading_lists, named=named_sets, order=st.randoms())
def test_the_order_of_the_configuration_does_not_matter(sets, readings, named, order):
    def shuffled(items):
        return order.sample(items, len(items))

    assert enumerate_targets(RESNET34, sets, readings, named, "set") == enumerate_targets(
        RESNET34,
        shuffled(sets),
        shuffled(readings),
        dict(shuffled(list(named.items()))),
        "set",
    )


@settings(deadline=None)
@given(
    network=networks,
    sets=set_lists,
    readings=reading_lists,
    named=named_sets,
    more_sets=set_lists,
    more_readings=reading_lists,
    more_named=named_sets,
)
def test_new_sets_readings_and_named_sets_change_no_batch(
    network, sets, readings, named, more_sets, more_readings, more_named
):
    kernels = table(network)
    before = contents(enumerate_targets(kernels, sets, readings, named, "set"))
    more_sets, more_readings = {*sets, *more_sets}, {*readings, *more_readings}
    more_named = {**more_named, **named}
    after = contents(
        enumerate_targets(kernels, list(more_sets), list(more_readings), more_named, "set")
    )
    for batch, members in before.items():
        if batch in after:
            assert after[batch] == members
        else:  # other batches have its kernel sets now
            predicted = {kernels for others in after.values() for _, kernels in others}
            assert {kernels for _, kernels in members} <= predicted


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_every_network_has_targets_of_every_kind(network):
    targets = enumerated(network, readings=READINGS)
    assert {target.kind for target in targets} == {"baseline", "layer", "block", "shortcut"}
    assert len({target.kernels for target in targets if target.kind == "layer"}) == len(
        table(network)
    )
