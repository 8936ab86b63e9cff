"""Keep pyarrow from importing pandas, for programs that start once per target.

pyarrow imports pandas, where it is installed, at its first conversion to or from Python: 0.3 s
of processor time, twice all the rest of such a program, which has no use for it.
"""

import sys
from importlib.machinery import ModuleSpec


class _NoPandas:
    """A finder that reports pandas as not installed; pyarrow is made to do without."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is kept out of this program", name=name)
        return None


def without_pandas() -> None:
    """Make later imports of pandas in this process fail as if it were not installed."""
    sys.meta_path.insert(0, _NoPandas())
