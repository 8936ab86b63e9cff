"""Which layers of a trained convolutional network does its task need?

Import this package before torch: torch reads the variables below when it starts.
"""

import os

# OpenMP threads that spin while they wait slow other programs on the same cores down, up to
# 20-fold, and are slowed down themselves. Threads that sleep at once make training slower on an
# idle host. This spin count keeps both rates (benchmarks/busy.py).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1250")
