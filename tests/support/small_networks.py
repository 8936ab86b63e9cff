"""Small networks of many kinds, and forward passes over three convolutions."""

import torch
import torch.nn.functional as F
from replay_networks import digits, scrambled
from torch import nn

SHAPE = (1, 8, 8)


def images_for(model, shape=SHAPE, count=5):
    """Return real images, and give the network random biases and normalization."""
    torch.manual_seed(0)
    scrambled(model, 3)
    return digits(count, shape)


class Forward(nn.Module):
    """Three convolutions and a linear layer, with the forward pass of a test."""

    def __init__(self, forward, channels=4):
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(1, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.c = nn.Conv2d(channels, channels, 3, padding=1)
        self.fc = nn.Linear(channels, 3)
        self.pass_ = forward

    def forward(self, x):
        return self.pass_(self, x)

    def answer(self, x):
        return self.fc(x.mean((2, 3)))


def small_vgg():
    torch.manual_seed(1)
    layers = []
    channels = 1
    for width in (6, 6, "pool", 8, 8, "pool", 12):
        if width == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
    head = [nn.Flatten(), nn.Linear(12 * 4, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 4)]
    return nn.Sequential(*layers, *head)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.down = self.twice(1, 4)
        self.bottom = self.twice(4, 8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.merge = self.twice(8, 4)
        self.head = nn.Conv2d(4, 2, 1)

    @staticmethod
    def twice(before, after):
        return nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        skip = self.down(x)
        x = self.up(self.bottom(F.max_pool2d(skip, 2)))
        return self.head(self.merge(torch.cat([skip, x], dim=1)))


class SegNet(nn.Module):
    """Unpools by the indices of its poolings, as a module and as a function."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.beside = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.second = nn.Conv2d(4, 6, 3, padding=1)
        self.third = nn.Conv2d(6, 4, 3, padding=1)
        self.unpool = nn.MaxUnpool2d(2)
        self.last = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = x + self.beside(x)
        x, places = self.pool(x)
        x = F.relu(self.second(x))
        size = x.size()
        x, deeper = F.max_pool2d(x, 2, return_indices=True)
        x = F.max_unpool2d(x, deeper, 2, output_size=size)
        x = F.relu(self.third(x))
        return self.last(self.unpool(x, places))


class Grouped(nn.Module):
    """A separable unit with a gate, and convolutions with strides, dilation and groups."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.stem = nn.Conv2d(1, 6, 5, stride=2, padding=2)
        self.depth = nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.squeeze = nn.Conv2d(6, 2, 1)
        self.excite = nn.Conv2d(2, 6, 1)
        self.point = nn.Conv2d(6, 8, 1)
        self.wide = nn.Conv2d(8, 8, (1, 3), padding=(0, 1), stride=(1, 2), groups=2)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = F.silu(self.stem(x))
        y = F.hardswish(self.norm(self.depth(x)))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        x = F.gelu(self.point(x + y * gate))
        return self.fc(self.wide(x).flatten(2).amax(-1))


class Several(nn.Module):
    """Nodes with several inputs: a sum of three, and lists that are concatenated and stacked."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.branches = nn.ModuleList(nn.Conv2d(1, 4, k, padding=k // 2) for k in (1, 3, 5))
        self.joined = nn.Conv2d(12, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        found = [branch(x) for branch in self.branches]
        total = sum(found)
        y = self.joined(torch.cat(found, 1))
        y = torch.where(y > 0, y, 0.1 * total)
        y = torch.maximum(y, torch.stack(found).mean(0))
        return self.fc(y.mean((2, 3)))


PASSES = {
    "a module used twice": lambda m, x: m.answer(m.b(F.relu(m.b(F.relu(m.a(x)))))),
    "a module used twice on two sizes": lambda m, x: m.answer(
        F.avg_pool2d(m.b(y := m.a(x)), 2) + m.b(F.max_pool2d(y, 2))
    ),
    "view with the batch from size": lambda m, x: m.fc(
        F.adaptive_avg_pool2d(m.b(m.a(x)), 1).view(x.size(0), -1)
    ),
    "reshape with the batch from shape": lambda m, x: m.fc(
        F.adaptive_max_pool2d(m.b(m.a(x)), (1, 1)).reshape(x.shape[0], x.shape[1] * 4)
    ),
    "view with the batch unnamed": lambda m, x: m.fc(m.a(x).mean((2, 3)).view(-1, 4)),
    "view with sizes in one tuple": lambda m, x: m.fc(
        m.a(x).mean((2, 3)).reshape((x.size(0), 4)) + m.b(m.a(x)).sum((-1, -2))
    ),
    "channel shuffle": lambda m, x: m.answer(
        m.b(m.a(x).view(x.size(0), 2, 2, 8, 8).transpose(1, 2).reshape(x.size(0), -1, 8, 8))
    ),
    "samples mixed by a view": lambda m, x: m.answer(
        m.b(m.a(x).view(4, x.size(0), 8, 8).transpose(0, 1).flip(0))
    ),
    "chunk": lambda m, x: m.answer(
        torch.cat([(p := (m.a(x) + m.b(m.a(x))).chunk(2, 1))[1], p[0]], 1)
    ),
    "split": lambda m, x: m.answer(
        m.c(torch.cat(list(torch.split(m.b(m.a(x)) + m.a(x), [1, 3], dim=1))[::-1], 1))
    ),
    "unbind": lambda m, x: m.fc(
        torch.stack((m.b(m.a(x)) + m.a(x)).unbind(1)[::-1], 1).mean((2, 3))
    ),
    "largest and its index": lambda m, x: m.fc(torch.max((m.b(m.a(x)) + m.a(x)).flatten(2), 2)[0]),
    "interpolation to another tensor's size": lambda m, x: m.answer(
        F.interpolate(m.b(F.avg_pool2d(m.a(x), 2)), size=m.a(x).shape[2:]) + m.c(m.a(x))
    ),
    "interpolation by a factor": lambda m, x: m.answer(
        F.interpolate(m.b(m.a(x)), scale_factor=2, mode="bicubic", align_corners=True)
    ),
    "softmax over samples": lambda m, x: m.answer(
        torch.softmax(m.b(m.a(x)), dim=0) + m.c(x + m.a(x))
    ),
    "softmax over channels": lambda m, x: m.answer(torch.softmax(m.b(m.a(x)), dim=1) * m.a(x)),
    "mean over samples subtracted": lambda m, x: m.answer(
        F.relu((y := m.b(F.relu(m.a(x)))) - y.mean(0)) + m.c(m.a(x))
    ),
    "mean over samples with its dimension": lambda m, x: m.answer(
        m.c(F.relu((y := m.b(F.relu(m.a(x)))) - y.mean(0, keepdim=True)))
    ),
    "products of samples": lambda m, x: (f := m.answer(m.b(m.a(x)))) @ f.t() @ f,
    "normalized by the batch": lambda m, x: m.answer(
        F.batch_norm(m.a(x), None, None, training=True)
        + F.relu(F.batch_norm(m.c(m.b(x + m.a(x))), None, None, training=True))
    ),
    "normalized by each sample": lambda m, x: m.answer(
        F.relu(F.instance_norm(m.b(y := m.a(x)))) + F.group_norm(m.c(y), 2)
    ),
    "samples reversed": lambda m, x: m.answer(m.c(m.b(m.a(x)).flip(0) + m.a(x))),
    "first sample for all": lambda m, x: m.answer(m.a(x) - m.b(m.a(x))[:1]),
    "samples rolled": lambda m, x: m.answer(torch.roll(m.b(m.a(x)), 1, 0) + m.a(x)),
    "samples concatenated and cut": lambda m, x: m.answer(
        torch.cat([m.a(x), m.b(m.a(x))], 0)[x.shape[0] :] + m.a(x)
    ),
    "zeros like": lambda m, x: m.answer(m.a(x) + torch.zeros_like(m.b(m.a(x)))),
    "ones like, after a zeroed kernel": lambda m, x: m.answer(
        m.c(torch.ones_like(m.b(m.a(x)))) + m.a(x)
    ),
    "new zeros": lambda m, x: m.answer(
        torch.cat([m.b(m.a(x))[:, 1:], x.new_zeros(x.size(0), 1, 8, 8)], 1)
    ),
    "constant branch": lambda m, x: m.answer(m.b(torch.zeros_like(m.a(x))) + m.a(x)),
    "scalars": lambda m, x: m.answer(
        2 - 0.5 * m.b(m.a(x) / 3 + 1) ** 2 + m.a(x) * (1 / x.shape[2])
    ),
    "a sum divided by the batch": lambda m, x: m.answer(
        m.b(m.a(x)) - m.a(x).sum(0, keepdim=True) / x.shape[0]
    ),
    "indexing": lambda m, x: m.answer(
        m.b(m.a(x)[:, [3, 2, 1, 0]])[:, :, ::2, 1:] + m.a(x)[..., ::2, 1:]
    ),
    "padding": lambda m, x: m.answer(
        F.pad(m.b(F.pad(m.a(x), (1, 0, 2, 1))), (-1, 0), value=1.0) + 1
    ),
    "norm and attention": lambda m, x: m.fc(
        F.scaled_dot_product_attention(
            t := F.layer_norm(m.b(m.a(x)).flatten(2).transpose(1, 2), (4,)), t, t
        ).mean(1)
    ),
    "kernel read directly": lambda m, x: m.answer(
        F.conv2d(m.a(x), m.b.weight, m.b.bias, padding=1)
    ),
    "kernel read directly and by its module": lambda m, x: m.answer(
        m.b(m.a(x)) + F.conv2d(m.a(x), m.b.weight, padding=2, dilation=2)
    ),
    "kernel in a sum": lambda m, x: m.answer(m.a(x) * m.b.weight.abs().mean() + m.c(m.a(x))),
    "kernel changed before use": lambda m, x: m.answer(
        F.conv2d(m.a(x), m.b.weight - m.b.weight.mean((1, 2, 3), keepdim=True), padding=1)
    ),
    "transposed with a parameter": lambda m, x: m.answer(
        F.conv_transpose2d(m.a(x), m.b.weight, stride=2, padding=1, output_padding=1)
    ),
    "padding by name": lambda m, x: m.answer(
        F.conv2d(m.a(x), m.b.weight, None, 1, "same", dilation=2)
    ),
    "frames of a video": lambda m, x: m.answer(
        m.b(F.relu(m.a(x.reshape(-1, 1, 4, 8)))).view(x.shape[0], 2, 4, 4, 8).mean(1)
    ),
    "frames of a video, zeroed in between": lambda m, x: m.answer(
        (m.b(y := m.a(x.reshape(x.shape[0] * 2, 1, 4, 8))) + y).view(-1, 2, 4, 4, 8).sum(1)
    ),
}


def warnings_of(caplog):
    return " ".join(
        record.getMessage() for record in caplog.records if record.levelname == "WARNING"
    )


def branching_on_values(forward):
    def branching(m, x):
        return forward(m, x) if x.abs().sum() >= 0 else x

    return branching
