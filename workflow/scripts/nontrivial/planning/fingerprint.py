"""Fingerprint a program: one digest of its code and of every module of ours that it imports.

Snakemake does not track the modules that a program imports. The digest does. It is computed from
the syntax trees without comments and docstrings: no edit to the training loop goes unnoticed, and a
better comment retrains nothing.
"""

import ast
import functools
from collections.abc import Sequence
from pathlib import Path

from nontrivial.errors import UserError
from nontrivial.formats.canonical import digest

# Every program imports it. It offers names to users and sets how threads wait: no result depends on
# it.
_ROOT_PACKAGE = "nontrivial/__init__.py"
_VERSION_DEPENDENT = {"type_params", "type_comment", "type_ignores", "kind"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def fingerprint(program: Path, roots: list[Path]) -> str:
    """Return a digest of a program and of the modules below ``roots`` that it imports.

    Args:
        program: the Python file that a rule runs (or a user's network module).
        roots: folders on the import path whose modules are followed, directly or not.
            Modules outside of them (installed libraries) are left out.

    Raises:
        UserError: a file cannot be read or is not valid Python.
    """
    return digest(followed(program, roots))


def followed(program: Path, roots: list[Path]) -> dict[str, object]:
    """Return the code of a program and of the modules that it imports, by path below its root.

    Raises:
        UserError: a file cannot be read or is not valid Python.
    """
    pending = [Path(program).resolve()]
    code: dict[str, object] = {}
    resolved_roots = tuple(Path(root).resolve() for root in roots)
    while pending:
        path = pending.pop()
        name = _relative(path, resolved_roots)
        if name in code:
            continue
        if name == _ROOT_PACKAGE:
            continue
        names, code[name] = _module(path, _source(path), resolved_roots)
        pending += [file for name in names if (file := module_file(name, resolved_roots))]
    return code


def module_file(name: str, roots: Sequence[Path]) -> Path | None:
    """Return the file of a module (a dotted name) below one of the roots, or None."""
    for root in roots:
        base = Path(root).joinpath(*name.split("."))
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if candidate.is_file():
                return candidate.resolve()
    return None


def _source(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


@functools.cache  # programs share most of their modules
def _module(path: Path, source: bytes, roots: tuple[Path, ...]) -> tuple[list[str], object]:
    """Return the dotted names that a module imports, sorted, and its code as plain data."""
    try:
        tree = ast.parse(source, filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not valid Python ({error}). Fix the file.") from error
    return _imported(tree, path, roots), _normalized(tree)


def _relative(path: Path, roots: Sequence[Path]) -> str:
    for root in roots:
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name


def _imported(tree: ast.Module, path: Path, roots: Sequence[Path]) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, path, roots)
            names += [base, *(f"{base}.{alias.name}".strip(".") for alias in node.names)]
    # Importing a.b.c runs a and a.b too.
    dotted = {
        ".".join(name.split(".")[: depth + 1])
        for name in names
        for depth in range(name.count(".") + 1)
    }
    return sorted(dotted - {""})


def _absolute(node: ast.ImportFrom, path: Path, roots: Sequence[Path]) -> str:
    if not node.level:
        return node.module or ""
    package = _relative(path, roots).removesuffix(".py").split("/")[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def _normalized(tree: ast.Module) -> object:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return _plain(tree)


def _plain(value: object) -> object:
    # The text of ast.unparse and ast.dump depends on the version of Python.
    if isinstance(value, ast.AST):
        fields = {
            name: _plain(item)
            for name, item in ast.iter_fields(value)
            if item is not None and item != [] and name not in _VERSION_DEPENDENT
        }
        return [type(value).__name__, fields]
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return f"{type(value).__name__} {value!r}"
