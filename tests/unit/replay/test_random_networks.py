"""Replay on random networks, targets and batches."""

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from replay_networks import (
    RandomNetwork,
    check_statuses,
    close,
    digits,
    expected_status,
    naive_loop,
    networks,
    replayed,
    targets_of,
)

from nontrivial.replay import Replay

few = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
# Export is so slow that a failure is shown as it was found, not in its smallest form.
unshrunk = settings(few, max_examples=5, phases=[Phase.explicit, Phase.reuse, Phase.generate])


@settings(few, max_examples=40)
@given(st.data())
def test_replay_equals_the_naive_loop(data):
    compare_with_naive_loop(data)


@pytest.mark.slow
@settings(few, max_examples=200)
@given(st.data())
def test_replay_equals_the_naive_loop_on_many_networks(data):
    compare_with_naive_loop(data)


def compare_with_naive_loop(data):
    model, shape = data.draw(networks())
    targets = data.draw(targets_of(model))
    images = digits(data.draw(st.integers(1, 7)), shape)
    batch_size = data.draw(st.integers(1, 4))
    stack_bytes = data.draw(st.sampled_from([None, 1, 1 << 30]))
    expected = naive_loop(model, {**targets, "clean": []}, images, batch_size)
    scale = max(output.abs().max().item() for output in expected.values())
    del expected["clean"]
    structural = {name: expected_status(model, paths) for name, paths in targets.items()}
    for reference in (True, False):
        replay = Replay(
            model,
            shape,
            targets,
            batch_size=batch_size,
            reference=reference,
            stack_bytes=stack_bytes,
        )
        assert replay.method == "torch.fx"
        found = replayed(replay, images, batch_size)
        for name, output in expected.items():
            if reference:
                assert torch.equal(found[name], output), name
            else:
                assert close(found[name], output, scale), name
        assert replay.statuses == structural
    check_statuses(replay, model, targets, images, batch_size)


@few
@given(st.data())
def test_targets_that_leave_the_same_network_share_one_output(data):
    model, shape = data.draw(networks())
    targets = data.draw(targets_of(model))
    replay = Replay(model, shape, targets, batch_size=2)
    together = {name: names for names, _ in replay(digits(2, shape)) for name in names}
    for name, paths in targets.items():
        for other, others in targets.items():
            if set(paths) == set(others):
                assert other in together[name]
        if replay.statuses[name] == "no_effect":
            assert {other for other, others in targets.items() if not others} <= {*together[name]}


class Untraceable(RandomNetwork):
    """Branches on a value of a tensor, so that no tracer can follow it."""

    def forward(self, images):
        if images.sum() > 1e9:
            return images
        return super().forward(images)


@pytest.mark.filterwarnings("ignore")
@settings(unshrunk, max_examples=10)
@given(st.data())
def test_full_passes_equal_the_naive_loop(data):
    model, shape = data.draw(networks(Untraceable))
    targets = data.draw(targets_of(model))
    images = digits(3, shape)
    replay = Replay(model, shape, targets, batch_size=2)
    assert replay.method == "full passes"
    expected = naive_loop(model, targets, images, 2)
    found = replayed(replay, images, 2)
    assert all(torch.equal(found[name], output) for name, output in expected.items())
    check_statuses(replay, model, targets, images, 2)
    for name, paths in targets.items():
        # Probing may take dead units for a cut, but it must find every true one.
        if (status := expected_status(model, paths)) != "ok":
            assert replay.statuses[name] in (status, "no_effect")


class Exported(RandomNetwork):
    """Branches on the size of the images, which torch.fx does not know."""

    def forward(self, images):
        if images.shape[2] > 100:
            return images
        return super().forward(images)


@pytest.mark.filterwarnings("ignore")
@unshrunk
@given(st.data())
def test_replay_equals_the_naive_loop_on_exported_networks(data):
    compare_exported_with_naive_loop(data)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(unshrunk, max_examples=20)
@given(st.data())
def test_replay_equals_the_naive_loop_on_many_exported_networks(data):
    compare_exported_with_naive_loop(data)


def compare_exported_with_naive_loop(data):
    model, shape = data.draw(networks(Exported))
    targets = data.draw(targets_of(model))
    images = digits(4, shape)
    expected = naive_loop(model, {**targets, "clean": []}, images, 3)
    scale = max(output.abs().max().item() for output in expected.values())
    del expected["clean"]
    for reference in (True, False):
        replay = Replay(model, shape, targets, batch_size=3, reference=reference)
        assert replay.method == "torch.export"
        found = replayed(replay, images, 3)
        for name, output in expected.items():
            assert close(found[name], output, scale, 0 if reference else 1e-4), name
        structural = {name: expected_status(model, paths) for name, paths in targets.items()}
        assert replay.statuses == structural


@few
@given(st.data())
def test_bfloat16_stays_within_a_few_percent_of_automatic_mixed_precision(data):
    model, shape = data.draw(networks())
    targets = data.draw(targets_of(model))
    images = digits(4, shape)
    expected = naive_loop(model, {**targets, "clean": []}, images, 4, "bf16")
    scale = max(output.abs().max().item() for output in expected.values())
    replay = Replay(model, shape, targets, batch_size=4, precision="bf16")
    for name, output in replayed(replay, images, 4).items():
        assert close(output, expected[name], scale, 0.05), name
