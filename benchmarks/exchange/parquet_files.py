"""Rows as parquet files of a bounded size, written as they come.

In: rows, one after the other. Out: `<config>/train-00000.parquet` and so on, which `datasets` reads
with their types; in memory there is never more than one row group.
"""

from pathlib import Path
from typing import Any

GROUP = 16_000_000  # bytes of one row group, which is all that is held
ROWS = 1000  # of one row group
FILE = 256_000_000  # bytes of one file


class ParquetFiles:
    """The files of one configuration of a data set; a context that closes the last one."""

    def __init__(self, folder: Path, features: Any) -> None:
        self.folder, self.schema = folder, features.arrow_schema
        self.encode = features.encode_example
        self.rows: list[dict[str, Any]] = []
        self.held = self.in_file = self.files = self.count = 0
        self.writer: Any = None

    def __enter__(self) -> "ParquetFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        self.close()

    def add(self, row: dict[str, Any], size: int = 100) -> None:
        """One row of about `size` bytes."""
        if self.rows and (self.held + size > GROUP or len(self.rows) == ROWS):
            self.flush()
        self.rows.append(self.encode(row))
        self.held += size
        self.count += 1

    def flush(self) -> None:
        """What is held becomes a row group."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self.rows:
            return
        if self.writer is not None and self.in_file + self.held > FILE:
            self.close()
        if self.writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            place = self.folder / f"train-{self.files:05d}.parquet"
            self.writer, self.in_file = pq.ParquetWriter(place, self.schema), 0
            self.files += 1
        self.writer.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.in_file += self.held
        self.rows, self.held = [], 0

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.writer = None


def write_frame(folder: Path, frame: Any) -> None:
    """A table of texts and numbers, as one configuration."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, folder / "train-00000.parquet", row_group_size=50_000)
