"""Which layers of a trained convolutional network does its task need?

Import this package before torch: torch reads the variable below when it starts.
"""

import os

# OpenMP threads that spin while they wait slow every other program on the same cores 20-fold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
