"""DataFrames from CSV text and back, a million rows in about a second.

In: text with a header, or a frame. Out: a frame of text, whole numbers and floats; or its CSV text,
byte for byte what pandas writes. Arrow reads and writes; a number of six decimals is the same
double, and the same text, either way.
"""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

SPECIAL = r'[,"\r\n]'  # a field with one of these needs quotes


def frame_of_text(text: bytes, kinds: Mapping[str, str]) -> "pd.DataFrame":
    """A column is text, or what `kinds` says of it (int64, float64). Nothing between two commas is
    the empty text, or a number that is not there; a word such as "null" is a word. ValueError where
    a row is not like the header."""
    import pyarrow as pa
    from pyarrow import csv

    head = csv.read_csv(io.BytesIO(text.partition(b"\n")[0] + b"\n"))
    types = {name: pa.type_for_alias(kinds.get(name, "large_string")) for name in head.column_names}
    table = csv.read_csv(
        pa.BufferReader(text if text.endswith(b"\n") else text + b"\n"),
        parse_options=csv.ParseOptions(newlines_in_values=b'"' in text),
        convert_options=csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=False
        ),
    )
    for name, column in zip(table.column_names, table.columns):
        if column.null_count and not pa.types.is_floating(column.type):
            raise ValueError(f"a row has no {name}")
    return table.to_pandas(split_blocks=True, self_destruct=True)


def text_of_frame(frame: "pd.DataFrame") -> str:
    """What `frame.to_csv(index=False)` gives, in a tenth of the time."""
    import pyarrow as pa
    from pyarrow import compute, csv

    columns = [_text_column(frame.iloc[:, n]) for n in range(frame.shape[1])]
    plain = len(columns) > 1 and not any(set(str(name)) & set(',"\r\n') for name in frame)
    for column in columns:
        if column is not None and not pa.types.is_integer(column.type):
            plain = (
                plain
                and not compute.any(compute.match_substring_regex(column.unique(), SPECIAL)).as_py()
            )
    if not plain or any(column is None for column in columns):
        return str(frame.to_csv(index=False, lineterminator="\n"))
    names = [str(name) for name in frame]
    out = io.BytesIO(f"{','.join(names)}\n".encode())
    out.seek(0, io.SEEK_END)
    csv.write_csv(
        pa.table(columns, names), out, csv.WriteOptions(include_header=False, quoting_style="none")
    )
    return out.getvalue().decode()


def _text_column(column: "pd.Series") -> Any:
    """As Arrow writes it without quotes; None for what pandas had better write."""
    import pyarrow as pa

    kind = str(column.dtype)
    if kind == "float64":
        return float_text(column.to_numpy())
    if kind == "int64":
        return pa.array(column.to_numpy())
    return pa.chunked_array(pa.array(column, pa.large_string())) if kind == "str" else None


def float_text(values: "np.ndarray") -> "pa.Array":
    """Shortest text of each float [n], as Python spells it; null where it is NaN. Arrow finds the
    same digits, and differs in where an exponent begins and in the .0 of whole numbers."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import compute

    text = compute.cast(pa.array(values, from_pandas=True), pa.large_string())
    size = np.abs(values)
    spelled = (size < 1e-4) | (size >= 1e9) | (values == np.trunc(values))
    if spelled.any():
        text = compute.replace_with_mask(
            text, spelled, pa.array(map(repr, values[spelled].tolist()), text.type)
        )
    return text
