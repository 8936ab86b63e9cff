"""Prevent pyarrow from importing pandas, for programs that run once per target.

pyarrow imports pandas, where it is installed, at its first conversion from or to Python objects.
That takes 0.24 s of CPU time, as much as the rest of such a program (``benchmarks/evaluate.py``).
"""

import sys
from importlib.machinery import ModuleSpec


class _NoPandas:
    """Report pandas as not installed, which pyarrow supports.

    ``sys.modules["pandas"] = None`` is no substitute: pyarrow is compiled with Cython, whose
    import returns that None.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is blocked in this program", name=name)
        return None


def block_pandas() -> None:
    """Make later imports of pandas in this process fail as if it were not installed."""
    sys.meta_path.insert(0, _NoPandas())
