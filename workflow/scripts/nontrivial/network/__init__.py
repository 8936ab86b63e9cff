"""Networks, the tables of their kernels, and their weights."""
