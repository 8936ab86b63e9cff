"""Check that every file under a final name is complete, by reading it to its end."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from safetensors import safe_open

from nontrivial.formats.canonical import file_digest

# Snakemake and logging write these in place.
NOT_RESULTS = re.compile(r"benchmarks/|(.*/)?\.(lock$|snakemake)|.*\.log$")


def damaged(results: Path) -> list[str]:
    """Return what is wrong with the files below a results folder, one line each.

    Partial files do not count. A digest beside a file must be that of the file, if the file exists.
    """
    found = [f"{path}: {why}" for path in final_files(results) if (why := _damage(path))]
    return found + list(_wrong_digests(results))


def final_files(results: Path) -> list[Path]:
    """Return the files below a folder that have a final name, sorted."""
    return sorted(
        path
        for path in results.rglob("*")
        if path.is_file()
        and ".part" not in path.name
        and not NOT_RESULTS.match(path.relative_to(results).as_posix())
    )


def _damage(path: Path) -> str | None:
    read = _READERS.get(path.suffix)
    if read is None:
        return f"no check for {path.suffix} files"
    try:
        read(path)
    except Exception as error:  # whatever a damaged file makes a library raise
        return f"{type(error).__name__}: {error}"
    return None


def _tensors(path: Path) -> None:
    with safe_open(path, framework="np") as file:
        for name in file.keys():  # noqa: SIM118
            file.get_tensor(name)


def _picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def _table(path: Path) -> None:
    text = path.read_text()
    rows = list(csv.reader(text.splitlines()))
    if not text.endswith("\n") or {len(row) for row in rows} != {len(rows[0])}:
        raise ValueError("ends within a row")


def _text(ending: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        if not path.read_text().endswith(ending):
            raise ValueError(f"does not end with {ending!r}")

    return read


_READERS = {
    ".parquet": pq.read_table,
    ".json": lambda path: json.loads(path.read_text()),
    ".safetensors": _tensors,
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".svg": ElementTree.parse,
    ".png": _picture,
    ".csv": _table,
    ".md": _text("\n"),
    ".tsv": _text("\n"),
    ".html": _text("</html>\n"),
}


def _wrong_digests(results: Path) -> Iterator[str]:
    for path in results.glob("data/*/dataset.json"):
        for name, recorded in json.loads(path.read_text())["sha256"].items():
            if _differs(path.parent / name, recorded):
                yield f"{path.parent / name}: its digest is not that in dataset.json"
    for path in results.glob("networks/*/seed*/model.json"):
        recorded = json.loads(path.read_text())
        for name, key in (("model", "sha256"), ("snapshots", "snapshots")):
            tensors = path.with_name(f"{name}.safetensors")
            if _differs(tensors, recorded[key]):
                yield f"{tensors}: its digest is not that in model.json"


def _differs(path: Path, digest: str) -> bool:
    return path.exists() and file_digest(path) != digest
