from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nontrivial.errors import UserError
from nontrivial.networks.kernel_table import Kernel, read_table
from nontrivial.networks.registry import NETWORKS
from nontrivial.targets.enumeration import BATCH_BY, READINGS, SETS, enumerate_targets

TABLES = Path(__file__).parents[3] / "resources" / "kernels"
ALL_SETS = list(SETS)


def table(name):
    return read_table(TABLES / NETWORKS[name].table)


RESNET34 = table("resnet34")
PATHS = [kernel.path for kernel in RESNET34]


def enumerated(name="resnet34", sets=ALL_SETS, readings=("first-unit",), named=None, by="block"):
    return enumerate_targets(table(name), list(sets), list(readings), named or {}, by)


def by_name(targets):
    return {target.name: target for target in targets}


def stored(targets):
    """Return the content of every batch: names and kernels, in order."""
    batches = {}
    for target in targets:
        if target.stored_as == target.name:
            batches.setdefault(target.batch, []).append((target.name, target.kernels))
    return batches


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


def kept(target, block, name="resnet34"):
    return [
        kernel.path
        for kernel in table(name)
        if kernel.block == block and kernel.path not in target.kernels
    ]


@pytest.mark.parametrize(
    ("reading", "block_1", "block_4"),
    [
        ("first-unit", ["layer1.0.conv1", "layer1.0.conv2"], ["layer4.0.conv1", "layer4.0.conv2"]),
        ("next", ["layer1.0.conv1"], ["layer4.0.conv1", "layer4.0.conv2"]),
        (
            "both-sides",
            ["layer1.0.conv1", "layer1.2.conv2"],
            ["layer4.0.conv1", "layer4.0.conv2", "layer4.2.conv2"],
        ),
        ("none", [], ["layer4.0.conv1"]),
    ],
)
def test_readings_of_adjacent_in_resnet34(reading, block_1, block_4):
    targets = by_name(enumerated(readings=[reading]))
    assert kept(targets[f"block-1-{reading}"], 1) == block_1
    shortcut = "layer4.0.downsample.0"
    assert set(kept(targets[f"block-4-{reading}"], 4)) == {*block_4, shortcut}


@pytest.mark.parametrize(("reading", "units"), [("next", {0, 1}), ("both-sides", {0, 1, 5})])
def test_bottlenecks_count_units(reading, units):
    block_3 = [kernel for kernel in table("resnet50") if kernel.block == 3]
    target = by_name(enumerated("resnet50", readings=[reading]))[f"block-3-{reading}"]
    assert {k.unit for k in block_3 if k.path not in target.kernels} == units
    assert {k.unit for k in block_3 if k.path in target.kernels} == set(range(6)) - units


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
    assert shortcut.batch == targets[shortcut.stored_as].batch == "layers-2"
    assert (shortcut.role, shortcut.block, shortcut.order) == ("shortcut", 2, 9)


def test_shortcuts_alone_have_their_own_batch():
    assert set(stored(enumerated(sets=["shortcut"]))) == {"baseline", "shortcuts"}


def test_resnet50_has_a_shortcut_in_block_1():
    assert "shortcut-1" in by_name(enumerated("resnet50"))


def test_the_layers_of_a_pspnet_hold_pyramid_and_head():
    targets = enumerated("pspnet_resnet34")
    head = [target for target in targets if target.batch == "layers-head"]
    assert len(head) == 6
    assert all(target.role == "head" and target.block is None for target in head)
    assert {target.batch for target in targets} == {
        "baseline",
        "layers-stem",
        "layers-1",
        "layers-2",
        "layers-3",
        "layers-4",
        "layers-head",
        "blocks-first-unit",
    }


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
    names = [t.name for t in enumerate_targets(kernels, ["shortcut"], [], {}, "block")]
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
        (["layer1.0.conv9"], r"'broken'.*layer1\.0\.conv9.*near are .*layer1\.0\.conv"),
        (["layer9.*"], r"'broken'.*glob 'layer9\.\*' matches no kernel.*near are layer"),
        (["layer1.0"], r"'broken'.*layer1\.0 is no kernel but holds some.*layer1\.0\.\*"),
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


@st.composite
def named_sets(draw, kernels=RESNET34):
    names = draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=3))
    chosen = st.lists(st.sampled_from([k.path for k in kernels]), min_size=1, max_size=4)
    return {name: draw(chosen) for name in names}


@settings(deadline=None)
@given(sets=set_lists, readings=reading_lists, named=named_sets(), by=st.sampled_from(BATCH_BY))
def test_aliases_are_equal_and_batches_partition_what_is_stored(sets, readings, named, by):
    targets = enumerate_targets(RESNET34, sets, readings, named, by)
    names = by_name(targets)
    assert len(names) == len(targets)
    for target in targets:
        original = names[target.stored_as]
        assert original.kernels == target.kernels
        assert original.stored_as == original.name
        assert original.batch == target.batch
        assert list(target.kernels) == [path for path in PATHS if path in target.kernels]
    kept_targets = [t for t in targets if t.stored_as == t.name]
    assert len({t.kernels for t in kept_targets}) == len(kept_targets)
    assert sum(len(content) for content in stored(targets).values()) == len(kept_targets)


@settings(deadline=None)
@given(sets=set_lists, readings=reading_lists, named=named_sets(), order=st.randoms())
def test_the_order_of_the_configuration_does_not_matter(sets, readings, named, order):
    def shuffled(items):
        return order.sample(items, len(items))

    assert enumerate_targets(RESNET34, sets, readings, named, "block") == enumerate_targets(
        RESNET34,
        shuffled(sets),
        shuffled(readings),
        dict(shuffled(list(named.items()))),
        "block",
    )


@settings(deadline=None)
@given(sets=set_lists, readings=reading_lists, named=named_sets(), more=named_sets())
def test_a_new_named_set_changes_no_batch_of_layers_blocks_or_shortcuts(
    sets, readings, named, more
):
    before = stored(enumerate_targets(RESNET34, sets, readings, named, "block"))
    after = stored(enumerate_targets(RESNET34, sets, readings, {**more, **named}, "block"))
    for batch, content in before.items():
        if not batch.startswith("set-"):
            assert after[batch] == content


@settings(deadline=None)
@given(sets=set_lists, named=named_sets(), count=st.integers(0, len(READINGS)), new=st.data())
def test_a_later_reading_changes_no_batch_of_an_earlier_one(sets, named, count, new):
    later = new.draw(st.lists(st.sampled_from(READINGS), unique=True))
    readings = list(READINGS[:count])
    before = stored(enumerate_targets(RESNET34, sets, readings, named, "block"))
    after = stored(enumerate_targets(RESNET34, sets, [*readings, *later], named, "block"))
    for batch, content in before.items():
        if not batch.startswith("set-"):
            assert after[batch] == content


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_every_network_has_targets_of_every_kind(network):
    targets = enumerated(network, readings=READINGS)
    assert {target.kind for target in targets} == {"baseline", "layer", "block", "shortcut"}
    assert len({target.kernels for target in targets if target.kind == "layer"}) == len(
        table(network)
    )
