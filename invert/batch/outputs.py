"""The tables of a run, written from its journal: whole, in the pictures' order, a row at a time.

`metadata.jsonl` is what Hugging Face's `imagefolder` datasets read: `file_name` relative to the file itself, and `text`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from invert.errors import InputError
from invert.files import whole_output

Row = dict[str, Any]
COLUMNS = ("file_name", "prompt", "score", "method", "tier", "token_passes", "alternatives", "embedded", "doubt")
ERRORS = "errors.jsonl"
GROUP = 1_000  # rows of a Parquet group


def table_row(row: Row, name: str) -> Row:
    """A journal's row as the tables have it; name: of the picture's file."""
    return {**{column: row.get(column) for column in COLUMNS}, "file_name": name}


def line(value: object) -> bytes:
    """One line of JSON, readable as UTF-8; what is no UTF-8 becomes an escape of JSON's own."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def write_metadata(rows: Iterable[Row], file: BinaryIO) -> None:
    """Lines that `load_dataset("imagefolder")` reads; `text` is the column that trainers take captions from."""
    for row in rows:
        file.write(line({"file_name": row["file_name"], "text": row["prompt"], "score": row["score"]}))


def write_jsonl(rows: Iterable[Row], file: BinaryIO) -> None:
    for row in rows:
        file.write(line(row))


def write_csv(rows: Iterable[Row], file: BinaryIO) -> None:
    """A header and a line a picture; prompts and what was embedded as JSON where they are more than text."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)  # it quotes what is in its line ending alone: "\r" may stand in a name, too
    for values in itertools.chain([COLUMNS], ([cell(row[column]) for column in COLUMNS] for row in rows)):
        writer.writerow(values)
        file.write(text.getvalue().removesuffix("\r\n").encode() + b"\n")
        text.seek(0)
        text.truncate()


def cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def write_parquet(rows: Iterable[Row], file: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float64()
    prompts = pa.list_(pa.struct([("prompt", text), ("score", number)]))
    types = (text, text, number, text, pa.int8(), pa.int64(), prompts, pa.struct([("prompt", text), ("source", text)]), text)
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    with pq.ParquetWriter(file, schema) as writer:
        rows = iter(rows)
        while group := list(islice(rows, GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))


# Format → name of the file, what writes it. `metadata.csv` and `metadata.parquet` may not stand beside metadata.jsonl.
FORMATS: dict[str, tuple[str, Callable[[Iterable[Row], BinaryIO], None]]] = {
    "metadata": ("metadata.jsonl", write_metadata),
    "jsonl": ("prompts.jsonl", write_jsonl),
    "csv": ("prompts.csv", write_csv),
    "parquet": ("prompts.parquet", write_parquet),
}


def check_formats(formats: Sequence[str]) -> None:
    """InputError where there is no such format."""
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"unknown `formats` {name!r}: choose among {', '.join(FORMATS)}")


def write_tables(folder: Path, formats: Sequence[str], rows: Callable[[], Iterator[Row]]) -> None:
    """Every table; rows: begins with the first one each time.

    Raises:
        InputError: one cannot be written; what was there stays.
    """
    for name in formats:
        file_name, write = FORMATS[name]
        with whole_output(folder / file_name) as file:
            write(rows(), file)


def write_errors(path: Path, errors: Iterable[Row]) -> int:
    """A line a bad picture; without any there is no file. How many there are."""
    count = 0
    with contextlib.ExitStack() as stack:
        file = None
        for error in errors:
            file = file or stack.enter_context(whole_output(path))
            file.write(line(error))
            count += 1
    if not count:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return count
