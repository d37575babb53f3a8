"""Writes files as `torch.save` does, without PyTorch, and spoils them.

The names of PyTorch are written as they are, so none of it need be there.
"""

import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np

KINDS = {"f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage",
         "i8": "LongStorage", "i4": "IntStorage", "i2": "ShortStorage",
         "i1": "CharStorage", "u1": "ByteStorage", "b1": "BoolStorage",
         "bf": "BFloat16Storage"}


class Array:
    """A tensor to be written: bytes of a storage, and where in it the tensor is."""

    def __init__(self, values, kind=None, shape=None, strides=None, offset=0,
                 count=None):
        self.data = np.ascontiguousarray(values).tobytes()
        self.kind = kind or values.dtype.str[1:]
        size = 2 if self.kind == "bf" else int(self.kind[1:])
        self.count = len(self.data) // size if count is None else count
        self.shape = values.shape if shape is None else shape
        if strides is None:
            strides = [int(np.prod(self.shape[i + 1:])) for i in range(len(self.shape))]
        self.strides, self.offset = tuple(strides), offset


def program(thing, legacy=False):
    """Returns a pickle of protocol 2 and the arrays in it, by their keys."""
    storages = {}
    return b"\x80\x02" + encode(thing, storages, legacy) + b".", storages


def encode(thing, storages, legacy):
    """Writes the operations that put a thing on the stack."""
    def each(things):
        return b"".join(encode(one, storages, legacy) for one in things)

    if isinstance(thing, Array):
        key = str(len(storages))
        storages[key] = thing
        storage = b"(" + each(["storage"]) + name("torch", KINDS[thing.kind]) + each(
            [key, "cpu", thing.count, *[None] * legacy]) + b"tQ"
        return name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + each(
            [thing.offset, tuple(thing.shape), thing.strides, False, OrderedDict()]
        ) + b"tR"
    if isinstance(thing, dict):
        pairs = [part for pair in thing.items() for part in pair]
        new = b"}"
        if isinstance(thing, OrderedDict):
            new = name("collections", "OrderedDict") + b")R"
        return new + b"(" + each(pairs) + b"u"
    if type(thing) is list:
        return b"](" + each(thing) + b"e"
    if type(thing) is tuple:
        return b"(" + each(thing) + b"t"
    # Without its own beginning and end.
    return pickle.dumps(thing, 2)[2:-1]


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def write_zip(path, thing, spoil=None, packed=False, byteorder=b"little"):
    """Writes the zip form; `spoil` changes the entries {name: bytes} before that."""
    content, storages = program(thing)
    entries = {"archive/data.pkl": content, "archive/byteorder": byteorder,
               "archive/version": b"3\n"}
    entries |= {f"archive/data/{key}": a.data for key, a in storages.items()}
    if spoil is not None:
        spoil(entries)
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def write_legacy(path, thing, little=True, version=1001):
    """Writes the form of before PyTorch 1.6."""
    system = {"protocol_version": 1001, "little_endian": little,
              "type_sizes": {"short": 2, "int": 4, "long": 4}}
    content, storages = program(thing, legacy=True)
    parts = [program(0x1950A86A20F9469CFC6C)[0], program(version)[0],
             program(system)[0], content, program(list(storages))[0]]
    for array in storages.values():
        parts += [struct.pack("<q", array.count), array.data]
    path.write_bytes(b"".join(parts))
