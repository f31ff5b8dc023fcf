"""Parquet files in and out, by pyarrow (extra: shards), which is imported when it is used.

In: a column of encoded pictures or of paths, or Hugging Face's struct of both. Out: a row a picture, the same bytes for the
same rows.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invert.batch.states import PassingError, passing, why_unreadable
from invert.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

PICTURES = ("image", "jpg", "jpeg", "png", "webp", "img", "picture", "image_bytes", "bytes", "image_path", "path", "file_name")
KEYS = ("__key__", "key", "id", "uid", "image_id", "file_name", "path")
ROWS = 64  # read at a time: encoded pictures of a batch, not of a row group
WHOLE = "is no whole Parquet file: write or copy it again"


class ColumnError(InputError):
    """The file has no column of that name, or none that holds pictures."""


def row_groups(path: str, size: int) -> Iterator[tuple[int, int]]:
    """The row groups of a file in runs of at least `size` rows, as (first, last + 1).

    A file that is damaged or may not be read is one run, so that what is wrong with it is told where it is read.

    Raises:
        PassingError: the system cannot read it now.
    """
    try:
        with _opened(path) as file:
            rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    except PassingError:
        raise
    except InputError:
        rows = []
    first = gathered = 0
    for i, n in enumerate(rows):
        gathered += n
        if gathered >= size:
            yield first, i + 1
            first, gathered = i + 1, 0
    if first < len(rows) or not rows:
        yield first, max(len(rows), 1)


def read_rows(
    path: str, groups: tuple[int, int], column: str | None, key: str | None
) -> Iterator[tuple[str, bytes | str | None]]:
    """(key, encoded picture or its path) of each row; None where there is neither.

    Args:
        path: the file.
        groups: first row group, and the one after the last.
        column: of the pictures; None: the first of PICTURES that is there.
        key: column of the keys; None: the first of KEYS; else the row's number in the file.

    Raises:
        ColumnError: there is no such column.
        InputError: the file is damaged.
        PassingError: the system cannot read it now.
    """
    import pyarrow as pa

    with _opened(path) as file:
        schema = file.schema_arrow
        column = _picture_column(path, schema, column)
        key = _key_column(path, schema, column, key)
        number = sum(file.metadata.row_group(i).num_rows for i in range(groups[0]))
        columns = [column] if key is None else list(dict.fromkeys([column, key]))
        try:
            for batch in file.iter_batches(ROWS, row_groups=range(*groups), columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    yield _named(row, column, key, number), _picture(row[column], path)
                    number += 1
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _unreadable(path, error) from error


def to_parquet(rows: Mapping[str, Sequence[Any]], types: Mapping[str, str], about: Mapping[str, str]) -> bytes:
    """A table as the bytes of a Parquet file, the same for the same rows.

    Args:
        rows: column → values.
        types: column → name of its type in pyarrow ("string", "float32", …).
        about: text that goes into the file's metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in types.items()], metadata=dict(about))
    table = pa.table({name: pa.array(rows[name], schema.field(name).type) for name in types}, schema=schema)
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    return stream.getvalue()


def rows_of(path: str | Path, columns: Iterable[str]) -> list[tuple[Any, ...]]:
    """Every row's values in these columns; none where there is no such file. InputError where it cannot be read."""
    if not os.path.exists(path):
        return []
    with _opened(str(path)) as file:
        table = file.read(columns=list(columns)).to_pydict()
    return list(zip(*(table[name] for name in columns), strict=True))


def first_value(path: str | Path, column: str) -> str:
    """What a file's first row has in a column; "" where there is no such row, or it cannot be read."""
    import pyarrow as pa

    try:
        with _opened(str(path)) as file:
            batch = next(file.iter_batches(1, columns=[column], use_threads=False), None)
            return "" if batch is None or not batch.num_rows else str(batch.column(0)[0].as_py() or "")
    except (pa.ArrowException, OSError, InputError, IndexError):
        return ""


def _opened(path: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (FileNotFoundError, PermissionError) as error:
        raise passing(path, error) or InputError(why_unreadable(path)) from error
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> InputError:
    """What is wrong with a file that cannot be read: its contents, or the system."""
    passes = passing(path, error) if isinstance(error, OSError) else None
    return passes or InputError(f"{path} {WHOLE}")


def _picture_column(path: str, schema: pa.Schema, column: str | None) -> str:
    if column is not None:
        if column not in schema.names:
            raise ColumnError(f"{path} has no column {column!r}: `picture_column` is one of {', '.join(schema.names)}")
        if not _can_hold_pictures(schema.field(column).type):
            raise ColumnError(f"the column {column!r} of {path} holds neither bytes nor paths: give another `picture_column`")
        return column
    for name in PICTURES:
        if name in schema.names and _can_hold_pictures(schema.field(name).type):
            return name
    raise ColumnError(f"{path} has no column of pictures that is known: name it by `picture_column`: {', '.join(schema.names)}")


def _can_hold_pictures(kind: pa.DataType) -> bool:
    import pyarrow as pa

    text = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_string, pa.types.is_large_string)
    if pa.types.is_dictionary(kind):  # as pandas writes categories
        kind = kind.value_type
    if pa.types.is_struct(kind):
        return any(kind.field(i).name in ("bytes", "path") for i in range(kind.num_fields))
    return any(test(kind) for test in text)


def _key_column(path: str, schema: pa.Schema, column: str, key: str | None) -> str | None:
    if key is not None:
        if key not in schema.names:
            raise ColumnError(f"{path} has no column {key!r}: `key_column` is one of {', '.join(schema.names)}")
        return key
    return next((name for name in KEYS if name in schema.names and name != column), None)


def _named(row: Mapping[str, Any], column: str, key: str | None, number: int) -> str:
    if key is not None and row[key] is not None:
        return str(row[key])
    value = row[column]
    if isinstance(value, dict) and value.get("path"):
        return str(value["path"])
    return value if isinstance(value, str) else str(number)


def _picture(value: Any, file: str) -> bytes | str | None:
    """Bytes as they are; a path beside the Parquet file, unless it is absolute."""
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if isinstance(value, str):
        return value if "://" in value else os.path.join(os.path.dirname(os.path.abspath(Path(file))), value)
    return value
