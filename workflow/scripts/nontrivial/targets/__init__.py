"""Zeroing targets: the sets of kernels that an experiment changes together."""

ZEROING = "zero"  # the intervention, in the column and in folders of results
