"""Replay: the outputs of a network for many sets of zeroed kernels, without repeated work.

    replay = Replay(model, (3, 32, 32), {"baseline": [], "stem": ["conv1"]}, batch_size=250)
    for names, logits in replay(images):
        ...

A network passes through these modules, in this order: ``tracing`` and ``lowering`` turn it into
a ``graph``, ``folding`` merges normalizations into convolutions, ``value_numbering`` finds what
targets share, ``schedule`` orders and groups the rest, ``interpreter`` computes it. See
docs/replay.md.
"""

from nontrivial.replay.engine import Replay

__all__ = ["Replay"]
