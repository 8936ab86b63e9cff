"""Rows of a table as mappings that look into its columns, for tables of many rows.

``Table.to_pylist`` builds a dictionary per row, and every text anew in each: three times the
memory and twice the time.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

_BETWEEN = "\t"  # stands in no kernel's path: kernel tables are divided by it


class RowView(Mapping[str, object]):
    """One row; equal texts and lists of different rows are the same object."""

    __slots__ = ("_columns", "_row")

    def __init__(self, columns: dict[str, list], row: int) -> None:
        """Take the columns by name and the row's number."""
        self._columns = columns
        self._row = row

    def __getitem__(self, name: str) -> object:
        """Return the value in a column."""
        return self._columns[name][self._row]

    def __iter__(self) -> Iterator[str]:
        """Go through the columns' names."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._columns)


def row_views(table: pa.Table) -> list[RowView]:
    """Return a view of every row, values as ``Table.to_pylist`` gives them."""
    columns = {name: _values(table[name]) for name in table.column_names}
    return [RowView(columns, row) for row in range(table.num_rows)]


def _values(column: pa.ChunkedArray) -> list:
    if pa.types.is_list(column.type):
        # An empty list and one of an empty text are told apart by their length.
        joined = _values(pc.binary_join(column, _BETWEEN))
        lengths = pc.list_value_length(column).to_pylist()
        pairs = list(zip(joined, lengths, strict=True))
        lists = {
            (text, length): None if text is None else text.split(_BETWEEN) if length else []
            for text, length in set(pairs)
        }
        return [lists[pair] for pair in pairs]
    if pa.types.is_string(column.type):
        encoded = column.combine_chunks().dictionary_encode()
        texts = [*encoded.dictionary.to_pylist(), None]
        return [texts[index] for index in encoded.indices.fill_null(-1).to_pylist()]
    return column.to_pylist()
