"""Networks at the limits of replay: correct nevertheless, or refused."""

import pytest
import torch
import torch.nn.functional as F
from replay_networks import check, digits, naive_loop, replayed, state_digest
from small_networks import (
    PASSES,
    SHAPE,
    Forward,
    branching_on_values,
    images_for,
    small_vgg,
    warnings_of,
)
from torch import nn

from nontrivial.errors import UserError
from nontrivial.execution.device import arithmetic
from nontrivial.replay import Replay
from nontrivial.replay.schedule import Schedule
from nontrivial.replay.tracing import trace
from nontrivial.replay.value_numbering import number_values

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch.export


def test_a_network_that_only_torch_export_can_trace(caplog):
    def forward(m, x):
        if x.shape[2] % 2:
            x = F.pad(x, (0, 0, 0, 1))
        return m.answer(m.b(F.relu(m.a(x))))

    for shape in ((1, 8, 8), (1, 7, 8)):
        model = Forward(forward)
        assert check(model, images_for(model, shape)).method == "torch.export"
    assert warnings_of(caplog) == ""


def test_a_network_that_branches_on_values_takes_full_passes_with_a_warning(caplog):
    model = Forward(branching_on_values(lambda m, x: m.answer(m.b(F.relu(m.a(x))) + m.a(x))))
    replay = check(model, images_for(model))
    assert replay.method == "full passes"
    assert replay.cost is None
    assert replay.statuses == {
        "baseline": "ok",
        "a": "cut",
        "b": "ok",
        "c": "no_effect",
        "all": "cut",
    }
    said = warnings_of(caplog)
    assert (
        "torch.fx: TraceError: symbolically traced variables cannot be used as inputs to control"
        in said
    )
    assert "torch.export: " in said
    assert "each of the 5 targets takes a full pass" in said


class Doubled(torch.autograd.Function):
    """Computes outside of torch, where no tracer can follow."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(2 * x.numpy(force=True))


def traced(x):
    return not torch.is_tensor(x) or torch.compiler.is_compiling()


def raising(error):
    def forward(m, x):
        if traced(x):
            raise error
        return m.answer(m.a(x))

    return forward


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (branching_on_values(lambda m, x: m.answer(m.a(x))), "data-dependent"),
        (lambda m, x: m.answer(m.a(x)) * m.b(m.a(x)).mean().item(), "Python numbers"),
        (lambda m, x: m.answer(m.a(x) if len(x) > 2 else m.b(m.a(x))), "Constraints violated"),
        (lambda m, x: m.answer(Doubled.apply(m.a(x))), "numpy"),
        (raising(KeyError("width")), "torch.export: KeyError: 'width'"),
        (raising(ValueError("first\nsecond\nthird")), "torch.export: ValueError: first)"),
        (raising(ValueError("long " * 1000)), "long ..."),
        (raising(ValueError()), "torch.export: ValueError)"),
    ],
    ids=["values", "item", "batch size", "function", "key", "lines", "long", "nothing"],
)
def test_the_reason_for_full_passes_is_one_line(forward, reason, caplog, capfd):
    model = Forward(forward)
    images = images_for(model)
    replay = Replay(model.eval(), SHAPE, {"baseline": [], "a": ["a"]}, batch_size=2)
    assert replay.method == "full passes"
    assert set(replayed(replay, images, 2)) == {"baseline", "a"}
    (record,) = (record for record in caplog.records if record.name == "nontrivial")
    assert reason in record.getMessage()
    assert "\n" not in record.getMessage()
    assert len(record.getMessage()) < 600
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("branches", [False, True], ids=["traced", "full passes"])
@pytest.mark.parametrize("name", ["kernel read directly and by its module", "a module used twice"])
def test_kernels_that_are_read_in_several_ways(name, branches):
    model = Forward(branching_on_values(PASSES[name]) if branches else PASSES[name])
    check(model, images_for(model))


@pytest.mark.parametrize("branches", [False, True], ids=["traced", "full passes"])
@pytest.mark.parametrize("before", [False, True], ids=["hook", "hook before"])
def test_a_users_hooks_on_a_convolution_are_called(branches, before):
    def forward(m, x):
        return m.answer(F.relu(m.b(F.relu(m.a(x)))) + m.a(x))

    model = Forward(branching_on_values(forward) if branches else forward)
    images = images_for(model)
    if before:
        model.b.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 3,))
    else:
        model.b.register_forward_hook(lambda module, inputs, output: output * 2 + 1)
    hooks = len(model.b._forward_hooks), len(model.b._forward_pre_hooks)
    assert (check(model, images).method == "full passes") == branches
    assert (len(model.b._forward_hooks), len(model.b._forward_pre_hooks)) == hooks


def test_hooks_on_the_whole_network_are_called():
    model = Forward(lambda m, x: m.answer(m.b(F.relu(m.a(x)))))
    images = images_for(model)
    model.register_forward_hook(lambda module, inputs, output: output * 2 + 1)
    check(model, images)


def test_a_network_that_behaves_differently_on_a_batch_of_one():
    def forward(m, x):
        y = m.answer(m.b(F.relu(m.a(x))))
        return y - y.mean(0) if x.shape[0] > 1 else y

    model = Forward(forward)
    check(model, images_for(model), batch_size=2)


class Counting(Forward):
    """Changes its own buffer, also in evaluation mode."""

    def __init__(self, change, forward=lambda m, x: m.answer(m.b(F.relu(m.a(x))))):
        super().__init__(forward)
        self.change = change
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.change(self, x)
        return super().forward(x)


def reassigned(m, x):
    m.seen = m.seen + x.mean()


def counted(m, x):
    m.seen += 1


def trained_normalization():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).eval()
    model[1].train()
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: Counting(lambda m, x: m.seen.add_(x.mean())),
        lambda: Counting(counted),
        lambda: Counting(reassigned),
        lambda: Counting(lambda m, x: m.seen.copy_(x[0, 0, 0, :1])),
        lambda: Counting(
            lambda m, x: m.seen.add_(x.mean()),
            branching_on_values(lambda m, x: m.answer(m.b(m.a(x)))),
        ),
        lambda: Counting(counted, branching_on_values(lambda m, x: m.answer(m.b(m.a(x))))),
        lambda: Counting(lambda m, x: m.fc.bias.data.mul_(0.9)),
    ],
    ids=[
        "mean",
        "count",
        "reassigned",
        "copied",
        "mean, full passes",
        "count, full passes",
        "parameter",
    ],
)
def test_a_network_that_changes_its_own_state_is_refused_and_restored(make):
    model = make()
    images_for(model)
    before = state_digest(model)
    with pytest.raises(UserError, match="changes its own"):
        Replay(model, SHAPE, {"b": ["b"]}, batch_size=2)
    assert isinstance(model.seen, torch.Tensor)
    assert state_digest(model) == before


def test_normalization_in_training_mode_is_refused_and_restored():
    model = trained_normalization()
    before = state_digest(model)
    with pytest.raises(UserError, match="changes its own"):
        Replay(model, SHAPE, {"0": ["0"]}, batch_size=2)
    assert state_digest(model) == before


def test_unknown_paths_and_precisions_are_refused():
    model = small_vgg().eval()
    with pytest.raises(UserError, match="is not a convolution"):
        Replay(model, SHAPE, {"x": ["nowhere"]}, batch_size=2)
    with pytest.raises(UserError, match="precision"):
        Replay(model, SHAPE, {"x": ["0"]}, batch_size=2, precision="fp8")


def test_a_kernel_that_shares_its_memory_transposed_is_zero_with_it():
    model = Forward(lambda m, x: m.answer(m.c(F.relu(m.b(F.relu(y := m.a(x))))) + y))
    images = images_for(model)
    model.c.weight.data = model.b.weight.data.transpose(0, 1)
    assert check(model, images).method == "full passes"


def test_a_parameter_that_is_part_of_a_kernel_is_zero_with_it():
    def forward(m, x):
        y = m.a(x)
        return m.answer(m.c(F.relu(y))) + F.linear(y.mean((2, 3)), m.w[:3])

    model = Forward(forward)
    model.w = nn.Parameter(torch.empty(4, 4))
    images = images_for(model)
    model.w.data = model.b.weight.data[:, :, 1, 1]
    assert check(model, images).method == "full passes"


def test_a_normalization_computed_from_a_kernel_follows_it():
    def forward(m, x):
        scale = m.b.weight.abs().sum((1, 2, 3))
        x = F.batch_norm(m.a(x), m.mean, m.var, weight=scale)
        return m.answer(x) if x.shape[2] % 2 else m.answer(F.relu(x))

    model = Forward(forward)
    model.register_buffer("mean", torch.zeros(4))
    model.register_buffer("var", torch.ones(4))
    replay = check(model, images_for(model))
    assert replay.method == "torch.export"
    assert replay.statuses["b"] == "ok"


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: torch.cat([m.answer(m.a(x)), m.answer(m.b(m.a(x.flip(-1))))]),
        lambda m, x: m.answer(m.b(m.a(x))).t(),
    ],
)
def test_an_output_without_one_sample_per_image(forward):
    model = Forward(forward)
    images = images_for(model)
    replay = Replay(model, SHAPE, {"b": ["b"]}, batch_size=5)
    assert torch.equal(
        replayed(replay, images, 5)["b"], naive_loop(model, {"b": ["b"]}, images, 5)["b"]
    )


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.answer(m.a(x)) * (2 if x.shape[0] <= 5 else 1),
        lambda m, x: m.answer(m.a(x)) + x.shape[0] // 6,
        lambda m, x: m.answer(m.a(x)) + x.shape[0] % 6,
        lambda m, x: m.answer(m.a(x)) + max(x.shape[0], 6),
    ],
)
def test_a_network_that_behaves_differently_on_large_batches(forward):
    model = Forward(forward)
    check(model, images_for(model, count=14), batch_size=7)


def test_an_output_that_is_not_a_tensor_is_refused():
    model = Forward(lambda m, x: {"out": m.answer(m.a(x))})
    images_for(model)
    with pytest.raises(UserError, match="returns dict, not one tensor"):
        Replay(model, SHAPE, {"a": ["a"]}, batch_size=2)


def test_a_network_in_training_mode_is_refused():
    model = Forward(lambda m, x: m.answer(m.a(x))).train()
    with pytest.raises(UserError, match=r"training mode; call its eval\(\)"):
        Replay(model, SHAPE, {"a": ["a"]}, batch_size=2)


def test_values_held_during_a_tiny_map_limit_the_stack():
    class Gate(nn.Module):
        """A gate of one pixel over a map that is held for it."""

        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(1, 8, 3, padding=1)
            self.gate = nn.Conv2d(8, 8, 1)
            self.late = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(3))

        def forward(self, x):
            x = F.relu(self.a(x))
            x = torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1))) * x
            x = F.adaptive_avg_pool2d(x, 1)
            for layer in self.late:
                x = F.relu(layer(x))
            return x.flatten(1)

    model = Gate().eval()
    graph = trace(model, (1, 16, 16))
    targets = {str(i): [] for i in range(4)} | {"gate": [1]}
    values = number_values(graph, {name: frozenset() for name in targets}, simplify=True)
    batch = 4
    schedule = Schedule(graph, values, batch, batch * 8 * 4 * 64, stacked=True)
    windows = {
        operation.name: schedule.windows[index] for index, operation in enumerate(graph.operations)
    }
    assert windows["gate"] == 1  # a map of 16 x 16 is held
    assert windows["late_1"] == 64


def test_fp32_on_a_gpu_disables_tf32():
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        with arithmetic(torch.device("cuda"), "fp32"):
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_pixels_that_no_tap_meets_are_not_multiplied():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 1, stride=2), nn.Flatten()).eval()
    images = digits(3, (1, 2, 2))
    images[:, :, 1, 1] = float("inf")
    expected = naive_loop(model, {"baseline": []}, images, 3)["baseline"]
    found = replayed(Replay(model, (1, 2, 2), {"baseline": []}, batch_size=3), images, 3)
    assert expected.isfinite().all()
    assert torch.allclose(found["baseline"], expected, atol=1e-6)
