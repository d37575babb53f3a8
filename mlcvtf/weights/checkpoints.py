"""Reads other libraries' checkpoints as named NumPy arrays, without running them.

The form of a file is told from its content: PyTorch's two (see `torch_file`) and
safetensors. The latter is a JSON header and raw arrays, read here in fewer lines than
an optional dependency would cost, and bfloat16, which NumPy has not, comes out as
float32.

References:
- Hugging Face, "safetensors", format section, github.com/huggingface/safetensors.
"""

import json
import math
import pathlib

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.weights import torch_file
from mlcvtf.weights.raw_arrays import ITEM_SIZES, decode

# Names of safetensors to those of `raw_arrays`.
SAFETENSORS_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
# The format's own limit.
LONGEST_HEADER = 100_000_000
HDF5 = b"\x89HDF\r\n\x1a\n"


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a checkpoint.

    Args:
        path: `.pth`, `.pt` or `.bin` that PyTorch wrote, in its zip or its legacy
            form, or `.safetensors`.

    Returns:
        Name to array, in the file's order. The prefix "module." that training on
        several devices puts before every name is left out.

    Raises:
        InputError: no such file, another kind of file, or one that is damaged or
            hostile; the message is one line.
    """
    path = pathlib.Path(path)
    try:
        content = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise InputError(
            f"a checkpoint is a readable file, {path} is not: {error}"
        ) from None
    start = bytes(content[:9])
    try:
        if start.startswith(b"PK\x03\x04"):
            arrays = torch_file.read_zip(path)
        elif start.startswith(torch_file.LEGACY_START):
            arrays = torch_file.read_legacy(content)
        elif start[8:] == b"{":
            arrays = read_safetensors(content)
        elif start.startswith(HDF5):
            raise ValueError("it is HDF5, which is read by --from=keras")
        else:
            raise ValueError("its first bytes are of neither")
    except (ValueError, OSError, MemoryError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            "a checkpoint is a state dict of PyTorch or a safetensors file, "
            f"{path} is not: {first}"
        ) from None
    if arrays and all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): a for name, a in arrays.items()}
    return arrays


def read_safetensors(content: np.ndarray) -> dict[str, np.ndarray]:
    """Reads the bytes of a safetensors file.

    Args:
        content: uint8 `[bytes]`, may be a memory map.

    Returns:
        Name to array.

    Raises:
        ValueError: what the format forbids; one line.
    """
    length = int.from_bytes(bytes(content[:8]), "little")
    if length > min(LONGEST_HEADER, len(content) - 8):
        raise ValueError(f"its header would have {length} bytes")
    try:
        header = json.loads(
            bytes(content[8 : 8 + length]).decode(), object_pairs_hook=_unique
        )
    except RecursionError:
        raise ValueError("its header is nested") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    header.pop("__metadata__", None)
    data, arrays, used = content[8 + length :], {}, []
    for name, entry in header.items():
        kind, shape, begin, end = _entry(name, entry)
        if end > len(data) or end - begin != math.prod(shape) * ITEM_SIZES[kind]:
            raise ValueError(
                f"{name} of shape {list(shape)} and {kind} has the bytes {begin} to "
                f"{end} of {len(data)}"
            )
        arrays[name] = decode(data[begin:end], kind, shape)
        used.append((begin, end))
    place = 0
    for begin, end in sorted(used):
        if begin != place:
            raise ValueError(f"its arrays overlap or leave a hole at byte {begin}")
        place = end
    if place != len(data):
        raise ValueError(f"{len(data) - place} bytes follow its last array")
    return arrays


def _entry(name, entry):
    """Checks the description of one array."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {name} is not dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(
            type(n) is int and n >= 0 for n in numbers
        ):
            raise ValueError(f"the shape or offsets of {name} are no sizes")
    if len(offsets) != 2 or offsets[0] > offsets[1] or len(shape) > 32:
        raise ValueError(f"the shape or offsets of {name} are no sizes")
    kind = entry["dtype"]
    if not isinstance(kind, str) or kind not in SAFETENSORS_TYPES:
        raise ValueError(f"{name} has the dtype {kind!r}, which is not read here")
    return SAFETENSORS_TYPES[kind], tuple(shape), *offsets


def _unique(pairs):
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("its header has a name twice")
    return names
