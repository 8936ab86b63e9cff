"""Replay: every zeroing target of a network at the price of what it changes.

    replay = Replay(model, (3, 32, 32), {"baseline": [], "stem": ["conv1"]}, batch_size=250)
    for names, logits in replay(images):
        ...

``trace`` lists a network's operations (``graph``), ``folding`` merges normalizations into
convolutions, ``values`` finds what targets share, ``schedule`` orders and groups what is left,
``program`` computes it, ``convolution`` knows the fastest ways, ``cost`` counts.
"""

from nontrivial.replay.engine import Replay

__all__ = ["Replay"]
