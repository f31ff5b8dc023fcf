"""Points in many files, `.npy` and Parquet, read a chunk at a time.

In: a folder or files; out: `Chunks` for `KMeans.fit`, `predict` and `score`. Of no file more than a chunk of rows is in
memory: maps of `.npy` files are opened for each chunk anew, and Parquet is read in batches by pyarrow (extra: shards).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clustering.params import path_of
from clustering.stream import Chunks

SUFFIXES = (".npy", ".parquet")


class Shards(Chunks):
    """Rows of all shards, in the order of their names.

    Args:
        source: a folder, whose `.npy` and `.parquet` files are taken, or files.
        columns: of Parquet files: each a number, or a list of numbers of one length; None: all.
        rows: read at a time.
        device: where each chunk is moved to.
        group: as of `Chunks`; each process takes its share of the files, the first the first.

    Raises:
        FileNotFoundError: a file or folder that is not there.
        ValueError: no shards, fewer than there are processes, or shards that hold no points (N, D).
        ImportError: Parquet without pyarrow.
    """

    def __init__(
        self,
        source: str | Path | Iterable[str | Path],
        columns: list[str] | None = None,
        rows: int = 1 << 18,
        device: str | torch.device = "cpu",
        group: Any = None,
    ) -> None:
        super().__init__(self._read, rows, device, group)
        self.columns = columns
        files = find_shards(source)
        if len(files) < self.workers.count:
            raise ValueError(f"{len(files)} shards are fewer than the {self.workers.count} processes: cut them smaller")
        first, last = (len(files) * rank // self.workers.count for rank in (self.workers.rank, self.workers.rank + 1))
        self.files = files[first:last]

    def _read(self) -> Iterator[np.ndarray]:
        width: int | None = None
        for file in self.files:
            for chunk in self._chunks_of(file):
                if width is not None and chunk.shape[1] != width:
                    raise ValueError(f"{file} has {chunk.shape[1]} features, the shards before it {width}: they must be alike")
                width = chunk.shape[1]
                yield chunk

    def _chunks_of(self, file: Path) -> Iterator[np.ndarray]:
        if file.suffix == ".parquet":
            return read_parquet(file, self.columns, self.rows)
        return read_npy(file, self.rows)


def find_shards(source: str | Path | Iterable[str | Path]) -> list[Path]:
    """The files that are meant, those of a folder by name."""
    if isinstance(source, str | Path) and Path(source).is_dir():
        files = sorted(file for file in Path(source).iterdir() if file.suffix in SUFFIXES)
    else:
        several = source if isinstance(source, Iterable) and not isinstance(source, str) else [source]
        files = [path_of(file, "source", "Shards") for file in several]
    if not files:
        raise ValueError(f"no shards in {source}: name a folder with .npy or .parquet files, or the files")
    for file in files:
        if file.suffix not in SUFFIXES:
            raise ValueError(f"{file} is no shard: name .npy or .parquet files")
        if not file.is_file():
            raise FileNotFoundError(f"{file} is not a file: name a folder of shards, or files")
    if any(file.suffix == ".parquet" for file in files) and find_spec("pyarrow") is None:
        raise ImportError("Parquet shards need the package pyarrow: run pip install 'prompt-inversion[shards]'")
    return files


def read_npy(file: Path, rows: int) -> Iterator[np.ndarray]:
    """Rows of an array (N, D) in chunks; each map is closed with its chunk, so that its pages are given back."""
    first = 0
    while True:
        try:
            mapped = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{file} is no array that NumPy can map: {error}") from None
        if not isinstance(mapped, np.ndarray) or mapped.ndim != 2:
            raise ValueError(f"{file} has shape {getattr(mapped, 'shape', None)}: shards hold points (N, D)")
        if first >= len(mapped):
            return
        chunk = np.array(mapped[first : first + rows])
        del mapped
        yield chunk
        first += rows


def read_parquet(file: Path, columns: list[str] | None, rows: int) -> Iterator[np.ndarray]:
    """Rows of a Parquet file in chunks: its columns side by side."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            missing = set(columns or ()) - set(opened.schema_arrow.names)
            if missing:
                raise ValueError(f"{file} has no column {min(missing)!r}: it has {', '.join(opened.schema_arrow.names)}")
            for batch in opened.iter_batches(rows, columns=columns):
                parts = [features(file, name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
                yield np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file} is no whole Parquet file: {str(error).splitlines()[0]}") from None


def features(file: Path, name: str, column: Any) -> np.ndarray:
    """A column of numbers (n, 1), or of lists of numbers (n, D)."""
    import pyarrow.types as kinds

    nested = kinds.is_list(column.type) or kinds.is_large_list(column.type) or kinds.is_fixed_size_list(column.type)
    flat = column.flatten() if nested else column
    if not (kinds.is_floating(flat.type) or kinds.is_integer(flat.type)):
        raise ValueError(f"{file}: column {name!r} holds {column.type}, no numbers: name the others as columns")
    if column.null_count or flat.null_count or len(flat) % max(1, len(column)):
        raise ValueError(f"{file}: column {name!r} has rows without a value, or lists of several lengths")
    return flat.to_numpy(zero_copy_only=False).reshape(len(column), -1)
