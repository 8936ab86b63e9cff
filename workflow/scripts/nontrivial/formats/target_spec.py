"""The spec file that tells a predict job its targets."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from nontrivial.errors import UserError


@dataclass(frozen=True)
class TargetSpec:
    """A target's name and the module paths of the kernels that it zeroes."""

    name: str
    kernels: tuple[str, ...]


def read_spec(path: Path, known: Collection[str]) -> list[TargetSpec]:
    """Read ``{"targets": [{"name": ..., "kernels": [...]}, ...]}``.

    Args:
        path: the file.
        known: module paths of the network's kernels.

    Raises:
        UserError: the file cannot be read, names no target, one of them twice or an unknown
            kernel, or two targets zero the same kernels and so are one.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        targets = [
            TargetSpec(str(entry["name"]), tuple(map(str, entry["kernels"])))
            for entry in content["targets"]
        ]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); run the workflow") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a list of targets ({error!r}); delete it") from error
    if not targets:
        raise UserError(f"{path}: holds no target; delete it and run the workflow")
    names: set[str] = set()
    sets: dict[frozenset[str], str] = {}
    for target in targets:
        unknown = [kernel for kernel in target.kernels if kernel not in known]
        if unknown:
            raise UserError(f"{path}: {target.name}: {unknown[0]} is no kernel of the network")
        if target.name in names:
            raise UserError(f"{path}: target {target.name} stands there twice; keep one")
        names.add(target.name)
        other = sets.setdefault(frozenset(target.kernels), target.name)
        if other != target.name:
            raise UserError(
                f"{path}: targets {other} and {target.name} zero the same kernels; keep one"
            )
    return targets
