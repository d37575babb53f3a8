"""Arrays from raw little-endian bytes, bfloat16 among them."""

import numpy as np

ITEM_SIZES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
}


def decode(data: np.ndarray, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Makes an array of bytes.

    Args:
        data: uint8 `[bytes]`, as many as `shape` and `kind` need.
        kind: key of `ITEM_SIZES`.
        shape: of the result.

    Returns:
        A copy in memory, of dtype `kind`; float32 for bfloat16, whose bits are the
        upper half of it.
    """
    data = np.array(data, np.uint8)
    if kind == "bfloat16":
        upper = data.view("<u2").astype(np.uint32) << 16
        return upper.view(np.float32).reshape(shape)
    if kind == "bool":
        return (data != 0).reshape(shape)
    return data.view(np.dtype(kind).newbyteorder("<")).astype(kind).reshape(shape)
