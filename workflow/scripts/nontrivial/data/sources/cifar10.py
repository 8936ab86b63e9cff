"""Prepare CIFAR-10 (Krizhevsky 2009) from any of its common forms."""

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nontrivial.data import splits
from nontrivial.data.prepared_writer import Form, PreparedWriter, writing
from nontrivial.data.sources import archives, pictures
from nontrivial.data.sources.cifar10_batches import read_batch
from nontrivial.data.sources.download import check_archive, download
from nontrivial.data.sources.locations import (
    CIFAR10_CLASSES,
    Cifar10Files,
    check_fetched,
    find_cifar10,
)
from nontrivial.data.sources.unpacking import unpack
from nontrivial.errors import UserError
from nontrivial.formats.samples import Sample

log = logging.getLogger("nontrivial")

KEYS = frozenset({"validation", "split_seed"})
SIZE = (32, 32)  # pixels
CHUNK = 1000  # images in memory at a time, where the form of the files allows it
FORM = Form("classification", list(CIFAR10_CLASSES), channels=3, size=SIZE, dtype="uint8")


@dataclass(frozen=True)
class Chunk:
    """Images uint8 (N, 3, 32, 32), their class numbers, and the file and row of each."""

    images: np.ndarray
    labels: list[int]
    sources: list[str]


def prepare(settings: dict, data_dir: Path, output: Path) -> None:
    """Prepare CIFAR-10; download it into ``data_dir`` if it is not there.

    The official test images are ``test``. Of the official training images, ``validation`` become
    ``val``, class-balanced and chosen by ``split_seed``.

    Raises:
        UserError: a file is missing, damaged or not CIFAR-10, or the download failed.
    """
    found = find_cifar10(data_dir)
    if found is None:
        log.info("CIFAR-10 is not in %s", data_dir)
        archive = download(archives.CIFAR10, data_dir)
        found = Cifar10Files("archive", archive.parent, [archive], [])
    log.info("CIFAR-10: %s in %s", found.form, found.folder)
    check_fetched([*found.train, *found.test])
    if found.form != "archive":
        write_prepared(found, settings["validation"], settings["split_seed"], output)
        return
    check_archive(found.train[0], archives.CIFAR10)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".unpacked-") as folder:
        unpack(found.train[0], Path(folder))
        unpacked = find_cifar10(Path(folder))
        if unpacked is None or unpacked.form != "batches":
            raise UserError(
                f"{found.train[0]}: contains no folder cifar-10-batches-py; download it again"
            )
        write_prepared(unpacked, settings["validation"], settings["split_seed"], output)


def write_prepared(files: Cifar10Files, validation: int, seed: int, output: Path) -> None:
    """Write the prepared data set from files of one form; see ``prepare``."""
    held_out = splits.balanced(
        read_labels(files, files.train), validation, len(CIFAR10_CLASSES), seed
    )
    with writing(output, FORM) as writer:
        row = 0
        for chunk in read(files, files.train):
            to_val = np.array([row + i in held_out for i in range(len(chunk.labels))])
            row += len(chunk.labels)
            for split, chosen in (("train", ~to_val), ("val", to_val)):
                _append(writer, split, chunk, np.flatnonzero(chosen))
        for chunk in read(files, files.test):
            _append(writer, "test", chunk, np.arange(len(chunk.labels)))


def read(files: Cifar10Files, part: list[Path]) -> Iterator[Chunk]:
    """Yield the images of some of the files in order, chunk by chunk.

    Raises:
        UserError: a file is missing, damaged or not CIFAR-10.
    """
    if files.form == "batches":
        for path in part:
            images, labels = read_batch(path, SIZE)
            sources = [f"{path.name}:{row}" for row in range(len(labels))]
            yield Chunk(images, _checked(labels, path), sources)
    elif files.form == "parquet":
        for path in part:
            yield from _parquet_chunks(path)
    else:
        for start in range(0, len(part), CHUNK):
            yield _folder_chunk(part[start : start + CHUNK], files.folder)


def read_labels(files: Cifar10Files, part: list[Path]) -> list[int]:
    """Return the class numbers of some of the files, in the order of ``read``.

    Raises:
        UserError: see ``read``.
    """
    if files.form == "batches":
        return [label for path in part for label in _checked(read_batch(path, SIZE)[1], path)]
    if files.form == "parquet":
        return [
            label
            for path in part
            for batch in _batches(path, with_images=False)
            for label in _checked(batch.column(0).to_pylist(), path)
        ]
    return [CIFAR10_CLASSES.index(path.parent.name) for path in part]


def _append(writer: PreparedWriter, split: str, chunk: Chunk, rows: np.ndarray) -> None:
    labels = [chunk.labels[row] for row in rows]
    table = [
        Sample(source=chunk.sources[row], label=label)
        for row, label in zip(rows, labels, strict=True)
    ]
    writer.append(split, chunk.images[rows], np.array(labels, dtype=np.int64), table)


def _parquet_chunks(path: Path) -> Iterator[Chunk]:
    row = 0
    for batch in _batches(path, with_images=True):
        labels = _checked(batch.column(0).to_pylist(), path)
        sources = [f"{path.name}:{row + i}" for i in range(len(labels))]
        row += len(labels)
        encoded = batch.column(1).field("bytes").to_pylist()
        images = [
            pictures.decode(data or b"", f"{path}, row {source.rpartition(':')[2]}", SIZE)
            for data, source in zip(encoded, sources, strict=True)
        ]
        yield Chunk(np.stack(images), labels, sources)


def _batches(path: Path, with_images: bool) -> Iterator[pa.RecordBatch]:
    """Yield the label column, and the image column if ``with_images``."""
    try:
        # Pages have checksums only if their writer was told to add them.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            column = _picture_column(schema, path)
            columns = ["label", column] if with_images else ["label"]
            for batch in file.iter_batches(CHUNK, columns=columns):
                yield batch.select(columns)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: not a readable Parquet file ({reason}); download it again"
        ) from error


def _picture_column(schema: pa.Schema, path: Path) -> str:
    if "label" in schema.names and pa.types.is_integer(schema.field("label").type):
        for name in ("img", "image"):
            if name in schema.names:
                kind = schema.field(name).type
                if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                    return name
    raise UserError(
        f"{path}: has columns {', '.join(schema.names)}; expected `img` or `image`, a struct "
        "{bytes, path}, and an integer `label`"
    )


def _folder_chunk(paths: list[Path], base: Path) -> Chunk:
    return Chunk(
        np.stack([pictures.decode(path, str(path), SIZE) for path in paths]),
        [CIFAR10_CLASSES.index(path.parent.name) for path in paths],
        [path.relative_to(base).as_posix() for path in paths],
    )


def _checked(labels: list, path: Path) -> list[int]:
    for label in labels:
        if label is None or not 0 <= label < len(CIFAR10_CLASSES):
            raise UserError(
                f"{path}: label {label} is not a class of CIFAR-10 (0 to 9); replace the file"
            )
    return labels
