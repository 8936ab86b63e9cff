"""What the tests of replay share: images, the naive loop, and random networks."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor, nn

from nontrivial.execution.device import arithmetic
from nontrivial.networks.convolutions import convolutions
from nontrivial.replay import Replay
from nontrivial.replay.zeroing import zeroed

TOLERANCE = 1e-4  # of the largest logit: accepted difference of replay in fp32
CPU = torch.device("cpu")


@cache
def _digits() -> Tensor:
    images = torch.from_numpy(load_digits().images).float()
    return (images - images.mean()) / images.std()


def state_digest(model: torch.nn.Module) -> str:
    """Return the SHA-256 hex digest of every parameter and buffer, by name.

    Equal before and after a job: nothing in the network changed, running statistics included.
    """
    state = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        array = tensor.detach().cpu().contiguous()
        state.update(f"{name} {tuple(array.shape)} {array.dtype}\n".encode())
        state.update(array.flatten().view(torch.uint8).numpy())
    return state.hexdigest()


def digits(count: int, shape: tuple[int, ...] = (1, 8, 8)) -> Tensor:
    """Return handwritten digits, resized; each channel is another digit."""
    channels, *size = shape
    # Every seventh, so that classes are mixed.
    chosen = _digits()[: 7 * count * channels : 7].view(count, channels, 8, 8)
    if tuple(size) == (8, 8):
        return chosen.clone()
    return F.interpolate(chosen, size=tuple(size), mode="bilinear", align_corners=False)


def scrambled(model: nn.Module, seed: int) -> nn.Module:
    """Give a network random biases and normalization, and set it to evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor | None, low: float, high: float) -> None:
        if tensor is not None:
            with torch.no_grad():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            draw(module.running_mean, -0.5, 0.5)
            draw(module.running_var, 0.3, 2.0)
            draw(module.weight, 0.5, 1.5)
            draw(module.bias, -0.5, 0.5)
        elif isinstance(module, nn.modules.conv._ConvNd):
            draw(module.bias, -0.5, 0.5)
    return model.eval()


def every_kernel(model: nn.Module) -> dict[str, list[str]]:
    """Return a baseline, each kernel alone, and all kernels as targets."""
    paths = list(convolutions(model))
    return {"baseline": [], **{path: [path] for path in paths}, "all": paths}


def naive_loop(
    model: nn.Module,
    targets: Mapping[str, Collection[str]],
    images: Tensor,
    batch_size: int,
    precision: str = "fp32",
) -> dict[str, Tensor]:
    """Return the outputs of the naive loop: zero, forward pass, restore."""
    outputs = {}
    for name, paths in targets.items():
        with zeroed(model, paths), torch.inference_mode(), arithmetic(CPU, precision):
            batches = [model(batch.clone()).float() for batch in images.split(batch_size)]
        outputs[name] = torch.cat(batches)
    return outputs


def replayed(replay: Replay, images: Tensor, batch_size: int) -> dict[str, Tensor]:
    """Return the outputs of replay, and assert that every batch has each target once."""
    batches: dict[str, list[Tensor]] = {name: [] for name in replay.statuses}
    for number, batch in enumerate(images.split(batch_size), start=1):
        before = batch.clone()
        # MKL's last bits depend on the alignment of the input, and a slice may start anywhere.
        batch = batch.clone()
        for names, output in replay(batch):
            assert output.dtype == torch.float32
            for name in names:
                batches[name].append(output.clone())
        assert torch.equal(batch, before)
        assert {len(outputs) for outputs in batches.values()} <= {number}
    return {name: torch.cat(outputs) for name, outputs in batches.items()}


def close(found: Tensor, expected: Tensor, scale: float, tolerance: float = TOLERANCE) -> bool:
    """Return whether outputs have one shape and differ by at most a tolerance times a scale."""
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= tolerance * scale)


def check(
    model: nn.Module,
    images: Tensor,
    targets: Mapping[str, Collection[str]] | None = None,
    *,
    batch_size: int = 3,
    tolerance: float = TOLERANCE,
    references: tuple[bool, ...] = (True, False),
    **options,
) -> Replay:
    """Compare replay with the naive loop, bit by bit in reference mode, and return it."""
    targets = every_kernel(model) if targets is None else targets
    expected = naive_loop(model, targets, images, batch_size)
    scale = max((output.abs().max().item() for output in expected.values()), default=0.0)
    for reference in references:
        replay = Replay(
            model,
            tuple(images.shape[1:]),
            targets,
            batch_size=batch_size,
            reference=reference,
            **options,
        )
        found = replayed(replay, images, batch_size)
        assert set(found) == set(targets)
        for name, output in expected.items():
            if reference:
                assert torch.equal(found[name], output), name
            else:
                assert close(found[name], output, scale, tolerance), name
        check_statuses(replay, model, targets, images, batch_size)
    return replay


def check_statuses(
    replay: Replay,
    model: nn.Module,
    targets: Mapping[str, Collection[str]],
    images: Tensor,
    batch_size: int,
) -> None:
    """Assert what a status implies for any weights."""
    assert set(replay.statuses) == set(targets)
    named = {name: targets[name] for name, status in replay.statuses.items() if status != "ok"}
    found = naive_loop(model, {**named, "clean": []}, images, batch_size)
    others = naive_loop(model, named, 1 - images.flip(0), batch_size)
    for name in named:
        assert targets[name], name
        if replay.statuses[name] == "cut":
            assert torch.equal(found[name], others[name]), name
        else:
            assert replay.statuses[name] == "no_effect"
            assert torch.equal(found[name], found["clean"]), name


# Random networks


@dataclass(eq=False)
class Map:
    """A feature map of a network that is being drawn.

    Attributes:
        channels: their number.
        size: (height, width).
        free: whether it may be changed in place.
    """

    channels: int
    size: tuple[int, int]
    free: bool = True


@dataclass(frozen=True)
class Step:
    """One operation: the numbers of the maps that it reads, and of its module if it has one."""

    operation: str
    reads: tuple[int, ...]
    module: int | None = None


class RandomNetwork(nn.Module):
    """A network that follows a list of steps; map 0 is the images."""

    def __init__(self, steps: list[Step], modules: list[nn.Module]):
        super().__init__()
        self.steps = steps
        self.layers = nn.ModuleList(modules)

    def extra_repr(self):
        return "\n".join(map(str, self.steps))

    def forward(self, images):
        maps = [images]
        for step in self.steps:
            module = None if step.module is None else self.layers[step.module]
            maps.append(OPERATIONS[step.operation](module, *(maps[read] for read in step.reads)))
        return maps[-1]


def _first_half(module, x):
    return x.chunk(2, dim=1)[0]


def _last_half(module, x):
    return torch.split(x, [x.shape[1] // 2, x.shape[1] - x.shape[1] // 2], 1)[1]


def _resized_like(module, x, y):
    return F.interpolate(x, size=y.shape[2:], mode="bilinear", align_corners=False)


OPERATIONS: dict[str, Callable] = {
    "module": lambda module, x: module(x),
    "relu": lambda module, x: F.relu(x),
    "relu method": lambda module, x: x.relu(),
    "relu in place": lambda module, x: F.relu(x, inplace=True),
    "relu_": lambda module, x: x.relu_(),
    "leaky": lambda module, x: F.leaky_relu(x, 0.2),
    "add": lambda module, x, y: x + y,
    "add_ twice as much": lambda module, x, y: x.add_(y, alpha=2),
    "add_": lambda module, x, y: x.add_(y),
    "gate": lambda module, x, y: x * torch.sigmoid(y),
    "concatenation": lambda module, x, y: torch.cat([x, y], dim=1),
    "shape": _resized_like,
    "max pool": lambda module, x: F.max_pool2d(x, 2),
    "average pool": lambda module, x: F.avg_pool2d(x, 3, stride=2, padding=1),
    "first half": _first_half,
    "last half": _last_half,
    "mean": lambda module, x: module(x.mean((2, 3))),
    "flat": lambda module, x: module(torch.flatten(x, 1)),
    "reshaped": lambda module, x: module(x.reshape(x.shape[0], -1)),
    "adaptive": lambda module, x: module(F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)),
}
_IN_PLACE = ("relu in place", "relu_", "relu module in place", "add_", "add_ twice as much")
_KEEPING = (
    "relu",
    "relu method",
    "leaky",
    "relu module",
    "norm",
    "norm",
    "norm",
    "gain",
)  # of size and channels
_CHANNELS = 8  # at most, to bound the width


class Gain(nn.Module):
    """A factor per channel: a parameter that is broadcast over samples."""

    def __init__(self, channels: int):
        super().__init__()
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, channels).view(1, -1, 1, 1))

    def forward(self, x):
        return x * self.gain


class _Drawing:
    """A network that is being drawn, step by step."""

    def __init__(self, draw, shape: tuple[int, int, int]):
        self.draw = draw
        self.maps = [Map(shape[0], (shape[1], shape[2]), free=False)]
        self.steps: list[Step] = []
        self.modules: list[nn.Module] = []

    def add(self, operation: str, reads: tuple[int, ...], made: Map, module=None) -> None:
        if isinstance(module, nn.Module):
            self.modules.append(module)
            module = len(self.modules) - 1
        self.steps.append(Step(operation, reads, module))
        self.maps.append(made)

    def one(self, fits: Callable[[Map], bool] = lambda m: True) -> int | None:
        """Return one of the maps that fit, late ones more often."""
        found = [number for number, m in enumerate(self.maps) if fits(m)]
        if not found:
            return None
        return found[-1 - min(self.draw(st.integers(0, 3)), len(found) - 1)]

    def step(self) -> None:
        getattr(self, self.draw(st.sampled_from(_STEPS)))()

    def convolution(self) -> None:
        read = self.one()
        x = self.maps[read]
        kernel = self.draw(st.sampled_from([(1, 1), (3, 3), (5, 5), (3, 1)]))
        # Not both: see _no_dilation_of_a_single_tap in test_convolution_algorithms.py.
        stride, dilation = self.draw(st.sampled_from([(1, 1), (1, 1), (1, 2), (2, 1)]))
        groups = 2 if x.channels % 2 == 0 and self.draw(st.integers(0, 3)) == 0 else 1
        out = 2 * self.draw(st.integers(1, _CHANNELS // 2))
        # The middle tap always meets data, so every kernel has an effect.
        padding = tuple(dilation * (side // 2) for side in kernel)
        module = nn.Conv2d(
            x.channels,
            out,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            bias=self.draw(st.booleans()),
        )
        size = tuple((side - 1) // stride + 1 for side in x.size)
        self.add("module", (read,), Map(out, size), module)

    def upsampling(self) -> None:
        read = self.one(lambda m: max(m.size) <= 8)
        if read is None:
            return
        x = self.maps[read]
        out = 2 * self.draw(st.integers(1, _CHANNELS // 2))
        groups = 2 if x.channels % 2 == 0 and self.draw(st.booleans()) else 1
        kernel, stride, padding, extra = self.draw(
            st.sampled_from([(2, 2, 0, 0), (3, 1, 1, 0), (3, 2, 1, 1)])
        )
        module = nn.ConvTranspose2d(x.channels, out, kernel, stride, padding, extra, groups)
        size = tuple((side - 1) * stride - 2 * padding + kernel + extra for side in x.size)
        self.add("module", (read,), Map(out, size), module)

    def used_twice(self) -> None:
        """Call an earlier convolution that keeps the number of channels again."""
        known = [
            number
            for number, module in enumerate(self.modules)
            if isinstance(module, nn.Conv2d) and module.in_channels == module.out_channels
        ]
        if not known:
            return
        number = self.draw(st.sampled_from(known))
        module = self.modules[number]
        read = self.one(lambda m: m.channels == module.in_channels)
        if read is not None:
            size = tuple((side - 1) // module.stride[0] + 1 for side in self.maps[read].size)
            self.add("module", (read,), Map(module.out_channels, size), number)

    def keeping(self) -> None:
        read = self.one()
        x = self.maps[read]
        kind = self.draw(st.sampled_from(_KEEPING))
        made = {"relu module": nn.ReLU, "norm": nn.BatchNorm2d, "gain": Gain}
        if kind in made:
            module = nn.ReLU() if kind == "relu module" else made[kind](x.channels)
            self.add("module", (read,), Map(x.channels, x.size), module)
        else:
            self.add(kind, (read,), Map(x.channels, x.size))

    def in_place(self) -> None:
        read = self.one(lambda m: m.free)
        if read is None:
            return
        x = self.maps[read]
        kind = self.draw(st.sampled_from(_IN_PLACE))
        if kind == "relu module in place":
            self.add("module", (read,), x, nn.ReLU(inplace=True))
        elif kind.startswith("add"):
            other = self.one(lambda m: (m.channels, m.size) == (x.channels, x.size))
            self.add(kind, (read, other), x)
        else:
            self.add(kind, (read,), x)

    def alias(self) -> None:
        """Give a map a second name; a change in place changes both."""
        read = self.one()
        module = self.draw(st.sampled_from([nn.Dropout, nn.Identity, nn.Dropout2d]))()
        self.add("module", (read,), self.maps[read], module)

    def joining(self) -> None:
        read = self.one()
        x = self.maps[read]
        kind = self.draw(st.sampled_from(["add", "add", "gate", "concatenation", "shape"]))
        if kind == "concatenation":
            other = self.one(lambda m: m.size == x.size and m.channels + x.channels <= _CHANNELS)
        elif kind == "shape":
            other = self.one()
        else:
            other = self.one(lambda m: (m.channels, m.size) == (x.channels, x.size))
        if other is None:
            return
        y = self.maps[other]
        channels = x.channels + (y.channels if kind == "concatenation" else 0)
        self.add(kind, (read, other), Map(channels, y.size))

    def pooling(self) -> None:
        read = self.one(lambda m: min(m.size) >= 2)
        if read is None:
            return
        x = self.maps[read]
        if self.draw(st.booleans()):
            self.add("max pool", (read,), Map(x.channels, tuple(side // 2 for side in x.size)))
        else:
            size = tuple((side - 1) // 2 + 1 for side in x.size)
            self.add("average pool", (read,), Map(x.channels, size))

    def half(self) -> None:
        read = self.one(lambda m: m.channels >= 2)
        if read is None:
            return
        x = self.maps[read]
        # Both are views of one memory, so neither may be changed in place from now on.
        x.free = False
        kind = self.draw(st.sampled_from(["first half", "last half"]))
        first = -(-x.channels // 2)
        channels = first if kind == "first half" else x.channels - x.channels // 2
        self.add(kind, (read,), Map(channels, x.size, free=False))

    def answer(self) -> None:
        read = self.one()
        x = self.maps[read]
        kind = self.draw(st.sampled_from(["mean", "flat", "reshaped", "adaptive", "dense"]))
        if kind == "dense":
            head = nn.Conv2d(x.channels, 3, 1)
            self.add("module", (read,), Map(3, x.size), head)
            self.add("shape", (len(self.maps) - 1, 0), Map(3, self.maps[0].size))
            return
        places = x.size[0] * x.size[1] if kind in ("flat", "reshaped") else 1
        self.add(kind, (read,), Map(0, (0, 0)), nn.Linear(x.channels * places, 4))


_STEPS = [
    *["convolution"] * 6,
    "upsampling",
    *["used_twice"] * 2,
    *["keeping"] * 3,
    *["in_place"] * 2,
    "alias",
    *["joining"] * 4,
    "pooling",
    "half",
]


@st.composite
def networks(draw, kind: type[RandomNetwork] = RandomNetwork):
    """Draw (network, shape of a sample)."""
    shape = (1, draw(st.integers(4, 8)), draw(st.integers(4, 8)))
    seed = draw(st.integers(0, 2**16))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        drawing = _Drawing(draw, shape)
        drawing.convolution()
        for _ in range(draw(st.integers(2, 12))):
            drawing.step()
        drawing.answer()
        model = kind(drawing.steps, drawing.modules)
    return scrambled(model, seed), shape


@st.composite
def targets_of(draw, model: nn.Module):
    """Draw targets: any number of kernels each, equal ones and kernels named twice among them."""
    paths = list(convolutions(model))
    sets = st.lists(st.sampled_from(paths), max_size=3)
    chosen = draw(st.lists(sets, min_size=1, max_size=5))
    if draw(st.booleans()):
        chosen += [chosen[0], list(reversed(chosen[0])), paths, []]
    return {f"target-{number}": kernels for number, kernels in enumerate(chosen)}


@dataclass(eq=False)
class _Fate:
    varies: bool
    changed: bool


def expected_status(model: RandomNetwork, kernels: Collection[str]) -> str:
    """Return the status that follows from the steps of a random network."""
    if not kernels:
        return "ok"
    zero = {int(path.rpartition(".")[2]) for path in kernels}
    fates = [_Fate(varies=True, changed=False)]
    same = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.ReLU)  # they change neither property
    for step in model.steps:
        read = [fates[number] for number in step.reads]
        module = None if step.module is None else model.layers[step.module]
        if step.operation in ("relu in place", "relu_") or isinstance(module, same):
            fates.append(read[0])
        elif step.operation in ("add_", "add_ twice as much"):
            read[0].varies |= read[1].varies
            read[0].changed |= read[1].changed
            fates.append(read[0])
        elif step.module in zero:
            fates.append(_Fate(varies=False, changed=True))
        elif step.operation == "shape":
            fates.append(_Fate(read[0].varies, read[0].changed))
        else:
            varies = any(fate.varies for fate in read)
            fates.append(_Fate(varies, any(fate.changed for fate in read)))
    if not fates[-1].changed:
        return "no_effect"
    return "ok" if fates[-1].varies else "cut"
