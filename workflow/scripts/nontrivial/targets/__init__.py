"""Zeroing targets: the sets of kernels that an experiment changes together."""
