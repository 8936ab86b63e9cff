"""Laws of replay on networks, targets and batches drawn at random."""

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
    networks,
    plain_loop,
    replayed,
    targets_of,
)

from nontrivial.replay import Replay

few = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
many = settings(few, max_examples=100)
# Exporting takes so long that a failure is better shown as it was found.
slow = settings(few, max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate])


@many
@given(st.data())
def test_replay_gives_what_the_plain_loop_gives(data):
    model, shape = data.draw(networks())
    targets = data.draw(targets_of(model))
    images = digits(data.draw(st.integers(1, 7)), shape)
    batch_size = data.draw(st.integers(1, 4))
    stack_bytes = data.draw(st.sampled_from([None, 1, 1 << 30]))
    expected = plain_loop(model, {**targets, "clean": []}, images, batch_size)
    scale = max(output.abs().max().item() for output in expected.values())
    del expected["clean"]
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
        check_statuses(replay, model, targets, images, batch_size)
        structural = {name: expected_status(model, paths) for name, paths in targets.items()}
        assert replay.statuses == structural


@settings(few, max_examples=50)
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


class Wild(RandomNetwork):
    """Asks for a value, so that nothing can list its operations."""

    def forward(self, images):
        if images.sum() > 1e9:
            return images
        return super().forward(images)


@pytest.mark.filterwarnings("ignore")
@slow
@given(st.data())
def test_full_passes_give_what_the_plain_loop_gives(data):
    model, shape = data.draw(networks(Wild))
    targets = data.draw(targets_of(model))
    images = digits(3, shape)
    replay = Replay(model, shape, targets, batch_size=2)
    assert replay.method == "full passes"
    expected = plain_loop(model, targets, images, 2)
    found = replayed(replay, images, 2)
    assert all(torch.equal(found[name], output) for name, output in expected.items())
    check_statuses(replay, model, targets, images, 2)
    for name, paths in targets.items():
        # Probing may take a dead unit for a cut; it must find every true one.
        if (status := expected_status(model, paths)) != "ok":
            assert replay.statuses[name] in (status, "no_effect")


class Exported(RandomNetwork):
    """Asks for a side of the images, which torch.fx does not know."""

    def forward(self, images):
        if images.shape[2] > 100:
            return images
        return super().forward(images)


@pytest.mark.filterwarnings("ignore")
@slow
@given(st.data())
def test_exported_networks_give_what_the_plain_loop_gives(data):
    model, shape = data.draw(networks(Exported))
    targets = data.draw(targets_of(model))
    images = digits(4, shape)
    expected = plain_loop(model, {**targets, "clean": []}, images, 3)
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
def test_bfloat16_stays_within_a_few_percent_of_an_automatic_mixed_precision_loop(data):
    model, shape = data.draw(networks())
    targets = data.draw(targets_of(model))
    images = digits(4, shape)
    expected = plain_loop(model, {**targets, "clean": []}, images, 4, "bf16")
    scale = max(output.abs().max().item() for output in expected.values())
    replay = Replay(model, shape, targets, batch_size=4, precision="bf16")
    for name, output in replayed(replay, images, 4).items():
        assert close(output, expected[name], scale, 0.05), name
