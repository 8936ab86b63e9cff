"""How jobs run: GPUs, locks, signals, atomic files, Snakemake, reuse of earlier results."""
