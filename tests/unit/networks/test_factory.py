"""Networks from factories."""

import pytest
from torch import nn

from nontrivial.errors import UserError
from nontrivial.networks.factory import construct

SIZE = (8, 8)


@pytest.fixture(autouse=True)
def _factories(tmp_path, monkeypatch):
    (tmp_path / "own_factories.py").write_text(
        "from torch import nn\n"
        "def plain(classes, channels, size, width=4):\n"
        "    return nn.Conv2d(channels, width, 3)\n"
    )
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("arguments", "width"), [(None, 4), ({}, 4), ({"width": 6}, 6)])
def test_the_factory_gets_its_arguments(arguments, width):
    network = construct("own_factories:plain", 2, 3, SIZE, arguments)
    assert isinstance(network, nn.Conv2d)
    assert (network.in_channels, network.out_channels) == (3, width)


def test_an_argument_that_the_factory_does_not_take_is_refused():
    with pytest.raises(UserError, match=r"own_factories:plain.*depth"):
        construct("own_factories:plain", 2, 3, SIZE, {"depth": 2})
