"""Parquet files in which a changed byte is noticed, also by a reader of a part.

Pages carry the format's own checksums, which Arrow writes and verifies only if told to. Nothing
in the format covers the footer (types, places, what we say of the columns): it holds a digest of
itself, made with zeros in the digest's place. Other readers see an entry of metadata.
"""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

_KEY = b"nontrivial.footer.sha256"
_EMPTY = b"0" * 64
# How the entry is written: the key, then the value's type and length in Thrift's compact protocol.
_BEFORE_DIGEST = _KEY + b"\x18\x40"
_TAIL_BYTES = 8  # the footer's length, little-endian, and the format's name


class Writer:
    """Writes row groups to a file that is no Parquet file before it is closed."""

    def __init__(self, path: Path, schema: pa.Schema, **options: object) -> None:
        """Open the file; ``options`` are those of ``pyarrow.parquet.ParquetWriter``."""
        self._path = path
        self._writer = pq.ParquetWriter(path, schema, write_page_checksum=True, **options)

    def write_table(self, table: pa.Table) -> None:
        """Append a table as one row group."""
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def close(self, metadata: dict[str, str] | None = None) -> None:
        """Write the footer, with metadata of the file, and its digest."""
        self._writer.add_key_value_metadata({**(metadata or {}), _KEY: _EMPTY})
        self._writer.close()
        with open(self._path, "rb+") as file:
            footer, start = _footer(file)
            place = footer.index(_BEFORE_DIGEST) + len(_BEFORE_DIGEST)
            file.seek(start + place)
            file.write(hashlib.sha256(footer).hexdigest().encode())


def write(table: pa.Table, path: Path, **options: object) -> None:
    """Write a table as one row group; ``options`` are those of :class:`Writer`."""
    writer = Writer(path, table.schema, **options)
    writer.write_table(table)
    writer.close()


def opened(path: Path) -> pq.ParquetFile:
    """Open a file, whose pages are verified when they are read.

    A file without these checksums (an earlier version's) is opened too.

    Raises:
        OSError: the file cannot be read, or is damaged.
        pyarrow.ArrowException: it is no Parquet file, or damaged.
    """
    with open(path, "rb") as file:
        footer, _ = _footer(file)
    place = footer.find(_BEFORE_DIGEST)
    if place >= 0:
        place += len(_BEFORE_DIGEST)
        said, rest = footer[place : place + 64], footer[place + 64 :]
        if hashlib.sha256(footer[:place] + _EMPTY + rest).hexdigest().encode() != said:
            raise pa.ArrowInvalid("its footer is damaged")
    return pq.ParquetFile(path, page_checksum_verification=True)


def read(path: Path) -> pa.Table:
    """Read a whole file.

    Raises:
        OSError: the file cannot be read.
        pyarrow.ArrowInvalid: it is no Parquet file, or damaged; said in one line.
    """
    try:
        with opened(path) as file:
            return file.read()
    except (OSError, pa.ArrowException) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise pa.ArrowInvalid(" ".join(str(error).split())) from error


def _footer(file: BinaryIO) -> tuple[bytes, int]:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    length = int.from_bytes(file.read(4), "little")
    start = size - _TAIL_BYTES - length
    if start < 0:
        raise pa.ArrowInvalid("cut short, or no Parquet file")
    file.seek(start)
    return file.read(length), start
