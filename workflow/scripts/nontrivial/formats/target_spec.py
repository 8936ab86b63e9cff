"""Spec files: the targets of a predict job, and the target files that aggregate reads."""

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
        UserError: the file cannot be read, is empty, repeats a name, has an unknown kernel, or
            has two targets with the same kernels.
    """
    try:
        targets = [
            TargetSpec(str(entry["name"]), tuple(map(str, entry["kernels"])))
            for entry in _read(path)["targets"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not a list of targets ({error!r}); delete it and run the workflow again"
        ) from error
    if not targets:
        raise UserError(f"{path}: no target; delete it and run the workflow again")
    names: set[str] = set()
    sets: dict[frozenset[str], str] = {}
    for target in targets:
        unknown = [kernel for kernel in target.kernels if kernel not in known]
        if unknown:
            raise UserError(
                f"{path}: {target.name}: the network has no kernel {unknown[0]}; delete the file"
                " and run the workflow again"
            )
        if target.name in names:
            raise UserError(f"{path}: target {target.name} is listed twice; keep one")
        names.add(target.name)
        other = sets.setdefault(frozenset(target.kernels), target.name)
        if other != target.name:
            raise UserError(
                f"{path}: targets {other} and {target.name} zero the same kernels; keep one"
            )
    return targets


def read_list(path: Path) -> list[Path]:
    """Read ``{"files": [...]}``.

    Raises:
        UserError: the file cannot be read or is empty.
    """
    try:
        files = [Path(name) for name in _read(path)["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}: not of the form {{"files": [...]}} ({error!r}); delete it and run the'
            " workflow again"
        ) from error
    if not files:
        raise UserError(f"{path}: lists no target file; configure at least one experiment")
    return files


def _read(path: Path) -> dict:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); run the workflow") from error
