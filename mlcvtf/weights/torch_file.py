"""Reads state dicts as PyTorch's `torch.save` writes them, without PyTorch.

Such a file is a pickle, a program for a small machine that can call any function of
Python, and raw storages. This is another machine for the same programs, over the
standard library's disassembler `pickletools`: it knows dicts, lists, tuples, numbers
and strings, makes arrays of storages, and calls nothing. A program that asks for
anything else ends the reading, before it has done anything.

Since 1.6 the file is a zip archive of `data.pkl` and one entry per storage; the legacy
form is five pickles, followed by the storages.
"""

import math
import pathlib
import pickletools
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mlcvtf.weights.raw_arrays import ITEM_SIZES, decode

STORAGES = {
    "torch DoubleStorage": "float64",
    "torch FloatStorage": "float32",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
}
REBUILDS = ("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2")
PARAMETER = "torch._utils _rebuild_parameter"
DICT = "collections OrderedDict"
KNOWN = {*STORAGES, *REBUILDS, PARAMETER, DICT}
# The program of the largest network here has 0.2 MB.
LONGEST_PROGRAM = 8 * 2**20
MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")[:5]
# Where training programs keep the state dict among other things.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module")
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
VALUES = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINSTRING",
    "SHORT_BINSTRING",
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Global(NamedTuple):
    """A name that a program may use: what it stands for is never imported."""

    name: str


class Storage(NamedTuple):
    """A storage that a tensor lies in.

    Attributes:
        key: name of the storage in the file.
        kind: key of `ITEM_SIZES`.
        count: number of values.
    """

    key: str
    kind: str
    count: int


class Tensor(NamedTuple):
    """Where a tensor lies: like NumPy's strides, but in values."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


def read_zip(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a file of `torch.save` since PyTorch 1.6.

    Args:
        path: the file.

    Returns:
        Name to array.

    Raises:
        ValueError: it is damaged or holds what a state dict does not; one line.
    """
    size = pathlib.Path(path).stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            # Entries are never packed, so none can be larger than the file.
            if sum(entry.file_size for entry in entries.values()) > size or any(
                entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()
            ):
                raise ValueError("its entries are packed or overlap")
            programs = [name for name in entries if name.endswith("/data.pkl")]
            if len(programs) != 1 or programs[0].count("/") != 1:
                raise ValueError("it is a zip archive without one data.pkl")
            prefix = programs[0].removesuffix("data.pkl")
            order = entries.get(f"{prefix}byteorder")
            if order is not None and archive.read(order) != b"little":
                raise ValueError("its byte order is not little-endian")
            if entries[programs[0]].file_size > LONGEST_PROGRAM:
                raise ValueError(f"its pickle is over {LONGEST_PROGRAM} bytes")
            state, _ = run(archive.read(programs[0]))

            def storage(key):
                name = f"{prefix}data/{key}"
                if name not in entries:
                    raise ValueError(f"it lacks the storage {name}")
                return np.frombuffer(archive.read(name), np.uint8)

            return _arrays(state, storage)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise ValueError(f"its archive is damaged: {error}") from None


def read_legacy(content: np.ndarray) -> dict[str, np.ndarray]:
    """Reads the bytes of a file of `torch.save` before PyTorch 1.6.

    Args:
        content: uint8 `[bytes]`, may be a memory map.

    Returns:
        Name to array.

    Raises:
        ValueError: it is damaged or holds what a state dict does not; one line.
    """
    programs, place, found = bytes(content[:LONGEST_PROGRAM]), 0, []
    for _ in range(5):
        value, length = run(programs[place:])
        found.append(value)
        place += length
    magic, version, system, state, keys = found
    if magic != MAGIC or version != 1001:
        raise ValueError(f"its version is {version}, not 1001")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its byte order is not little-endian")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("its storages have no list of names")
    kinds = {t.storage.key: t.storage for t in _tensors(_state(state)).values()}
    storages = {}
    for key in keys:
        if key not in kinds:
            raise ValueError(f"its storage {key} belongs to no tensor")
        count = int.from_bytes(bytes(content[place : place + 8]), "little")
        if count != kinds[key].count:
            raise ValueError(f"its storage {key} is cut off or of another size")
        end = place + 8 + count * ITEM_SIZES[kinds[key].kind]
        storages[key], place = content[place + 8 : end], end
    if place != len(content):
        raise ValueError(f"its storages have {place} bytes, it {len(content)}")

    def storage(key):
        if key not in storages:
            raise ValueError(f"it lacks the storage {key}")
        return storages[key]

    return _arrays(state, storage)


def run(program: bytes) -> tuple[Any, int]:
    """Runs a pickle that builds plain values and tensors.

    Args:
        program: the pickle; what follows its end is left alone.

    Returns:
        The value, and the number of bytes of the program.

    Raises:
        ValueError: damaged, or another operation or name than those known here.
    """
    machine = _Machine()
    try:
        for operation, argument, place in pickletools.genops(program):
            if operation.name == "STOP":
                (value,) = machine.stack
                return value, place + 1
            machine.step(operation.name, argument)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"its pickle is damaged ({type(error).__name__})") from None
    raise ValueError("its pickle has no end")


class _Machine:
    """A stack, stacks that marks put aside, and a memory."""

    def __init__(self):
        self.stack, self.aside, self.memory = [], [], {}

    def step(self, name: str, argument: Any) -> None:
        """Does one operation."""
        push, pop = self.stack.append, self.stack.pop
        if name in VALUES:
            push(argument)
        elif name in CONSTANTS:
            push(CONSTANTS[name])
        elif name in EMPTY:
            push(EMPTY[name]())
        elif name in TUPLES:
            count = TUPLES[name]
            values = tuple(self.stack[-count:])
            if len(values) != count:
                raise IndexError
            self.stack[-count:] = [values]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memory[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            push(self.memory[argument])
        elif name == "MEMOIZE":
            self.memory[len(self.memory)] = self.stack[-1]
        elif name == "MARK":
            self.aside.append(self.stack)
            self.stack = []
        elif name in ("TUPLE", "SETITEMS", "APPENDS"):
            values, self.stack = self.stack, self.aside.pop()
            self._collect(name, values)
        elif name in ("SETITEM", "APPEND"):
            count = 2 if name == "SETITEM" else 1
            values = [pop() for _ in range(count)][::-1]
            self._collect(name + "S", values)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                argument = " ".join((pop(), pop())[::-1])
            if argument not in KNOWN:
                raise ValueError(
                    f"it holds {argument.replace(' ', '.')[:80]!r}, a state dict "
                    "holds tensors, dicts and numbers"
                )
            push(Global(argument))
        elif name == "BINPERSID":
            push(_storage(pop()))
        elif name == "REDUCE":
            arguments = pop()
            push(_call(pop(), arguments))
        elif name == "BUILD":
            # The attribute _metadata of a state dict.
            pop()
            if not isinstance(self.stack[-1], dict):
                raise TypeError
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"its pickle has the operation {name}")

    def _collect(self, name, values):
        if name == "TUPLE":
            self.stack.append(tuple(values))
        elif name == "APPENDS":
            if not isinstance(self.stack[-1], list):
                raise TypeError
            self.stack[-1].extend(values)
        else:
            if not isinstance(self.stack[-1], dict) or len(values) % 2:
                raise TypeError
            for key, value in zip(values[::2], values[1::2], strict=True):
                if not isinstance(key, str | int):
                    raise TypeError
                self.stack[-1][key] = value


def _call(function, arguments):
    """Does what the few known functions do."""
    if not isinstance(function, Global) or not isinstance(arguments, tuple):
        raise TypeError
    if function.name == DICT:
        if arguments:
            raise ValueError("its pickle fills an OrderedDict in an unknown way")
        return {}
    if function.name == PARAMETER and isinstance(arguments[0], Tensor):
        return arguments[0]
    if function.name not in REBUILDS:
        raise TypeError
    storage, offset, shape, strides = arguments[:4]
    if len(shape) != len(strides):
        raise TypeError
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or not all(type(n) is int for n in numbers):
        raise TypeError
    count = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    # No more values than the storage has: strides of 0 could make of one any number.
    if (
        min(numbers) < 0
        or len(shape) > 32
        or count > storage.count
        or (count and last >= storage.count)
    ):
        raise ValueError(
            f"a tensor of shape {list(shape)[:9]} and strides {list(strides)[:9]} does "
            f"not fit into its storage of {storage.count}"
        )
    return Tensor(storage, offset, shape, strides)


def _storage(description):
    label, kind, key, _, count = description[:5]
    view = description[5] if len(description) > 5 else None
    if label != "storage" or not isinstance(kind, Global) or type(count) is not int:
        raise TypeError
    if not isinstance(key, str) or count < 0 or view is not None:
        raise TypeError
    return Storage(key, STORAGES[kind.name], count)


def _state(value):
    """Finds the state dict in what a file holds."""
    if isinstance(value, dict) and not any(
        isinstance(v, Tensor) for v in value.values()
    ):
        for name in WRAPPERS:
            if isinstance(value.get(name), dict):
                return value[name]
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__.lower()}, not a state dict")
    return value


def _tensors(state):
    """Checks that a state dict holds named tensors; numbers are left out."""
    tensors = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor | int | float):
            raise ValueError(
                f"{str(name)[:80]!r} in it is neither a tensor nor a number"
            )
        if isinstance(value, Tensor):
            tensors[name] = value
    if not tensors:
        raise ValueError("it holds no tensor")
    return tensors


def _arrays(state: Any, storage: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
    """Makes the arrays of a state dict's tensors."""
    loaded, arrays = {}, {}
    for name, tensor in _tensors(_state(state)).items():
        key, kind, count = tensor.storage
        if key not in loaded:
            data = storage(key)
            if len(data) != count * ITEM_SIZES[kind]:
                raise ValueError(
                    f"its storage {key} has {len(data)} bytes for {count} {kind}"
                )
            loaded[key] = kind, decode(data, kind, (count,))
        if loaded[key][0] != kind:
            raise ValueError(f"its storage {key} has two types")
        values = loaded[key][1]
        view = np.lib.stride_tricks.as_strided(
            values[tensor.offset :],
            tensor.shape,
            [stride * values.itemsize for stride in tensor.strides],
            writeable=False,
        )
        arrays[name] = np.array(view, order="C")
    return arrays
