"""Foreign checkpoints: what is read is right, what is wrong is one line."""

import json
import os
import pickle
import pickletools
import resource
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.weights import checkpoints, torch_file
from tests.weights.torch_writer import Array, program, write_legacy, write_zip

GENERATOR = np.random.default_rng(0)
ARRAYS = OrderedDict(
    {f"layer.{kind}": GENERATOR.uniform(-90, 90, (2, 3)).astype(kind)
     for kind in ("f8", "f4", "f2", "i8", "i4", "i2", "i1")},
    byte=np.arange(4, dtype="u1"),
    flags=np.array([True, False, True]),
    scalar=np.array(7),
    empty=np.zeros((0, 5), "f4"),
)
WRITERS = {"zip": write_zip, "legacy": write_legacy}


def tensors(arrays):
    return OrderedDict((name, Array(array)) for name, array in arrays.items())


def check(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("form", WRITERS)
def test_reads_all_types(tmp_path, form):
    WRITERS[form](tmp_path / "a.pth", tensors(ARRAYS))
    check(checkpoints.read(tmp_path / "a.pth"), ARRAYS)


@pytest.mark.parametrize("form", WRITERS)
def test_reads_bfloat16_strides_and_offsets(tmp_path, form):
    values = np.array([1.5, -2.0, 3e38, 0.0078125], "f4")
    halves = (values.view("u4") >> 16).astype("u2")
    base = np.arange(12, dtype="f4")
    WRITERS[form](tmp_path / "a.pth", {
        "half": Array(halves, "bf"),
        "turned": Array(base, shape=(4, 3), strides=(1, 4)),
        "part": Array(base, shape=(2, 2), strides=(6, 3), offset=1),
    })
    found = checkpoints.read(tmp_path / "a.pth")
    assert found["half"].dtype == np.float32
    np.testing.assert_array_equal(found["half"], (halves.astype("u4") << 16).view("f4"))
    np.testing.assert_array_equal(found["turned"], base.reshape(3, 4).T)
    np.testing.assert_array_equal(found["part"], [[1, 4], [7, 10]])


@pytest.mark.parametrize("form", WRITERS)
def test_finds_the_state_dict_in_a_training_checkpoint(tmp_path, form):
    state = {f"module.{name}": array for name, array in ARRAYS.items()}
    WRITERS[form](tmp_path / "a.pth", {
        "epoch": 3, "arch": "resnet18", "lr": 0.1, "done": None, "betas": [0.9, 0.99],
        "state_dict": tensors(state)})
    check(checkpoints.read(tmp_path / "a.pth"), ARRAYS)


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/mlcvtf_was_here",)


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("thing, message", [
    ({"a": Evil()}, r"holds 'posix\.system', a state dict holds tensors"),
    (Evil(), r"holds 'posix\.system'"),
    ({"a": Array(np.ones(2)), "b": print}, r"holds '__builtin__\.print'"),
    ({"a": np.float64(3.0)}, "holds 'numpy"),
    ({"a": Array(np.ones(2)), "b": "text"}, "'b' in it is neither a tensor"),
    ({"a": Array(np.ones(2)), 3: Array(np.ones(2))}, "'3' in it is neither"),
    ({"other": {"a": Array(np.ones(2))}}, "'other' in it is neither"),
    ({"a": 3.0}, "it holds no tensor"),
    (Array(np.ones(2)), "it holds a tensor, not a state dict"),
    ([1], "it holds a list"),
])
def test_refuses_what_is_no_state_dict(tmp_path, form, thing, message):
    assert_refused_of(tmp_path / "a.pth", WRITERS[form], thing, message)
    assert not os.path.exists("/tmp/mlcvtf_was_here")


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("array, message", [
    (Array(np.ones(4), shape=(5,)), "does not fit into its storage of 4"),
    (Array(np.ones(4), shape=(2, 2), strides=(3, 1)), "does not fit"),
    (Array(np.ones(4), shape=(2,), offset=3), "does not fit"),
    (Array(np.ones(4), shape=(2,), strides=(-1,)), "does not fit"),
    (Array(np.ones(4), shape=(2,), offset=-1), "does not fit"),
    (Array(np.ones(1), shape=(10**9, 10**9), strides=(0, 0)), "does not fit"),
    (Array(np.ones(4), shape=(2, 2), strides=(1,)), "damaged|does not fit"),
    (Array(np.ones(4), shape=(1,) * 40), "does not fit"),
    (Array(np.ones(4), count=400, shape=(4,)), "bytes for 400|storages have"),
    (Array(np.ones(4), count=-4, shape=(0,)), "damaged"),
    (Array(np.ones(4), count=2**62, shape=(4,)), "bytes for|storages have"),
])
def test_refuses_tensors_that_do_not_fit(tmp_path, form, array, message):
    assert_refused_of(tmp_path / "a.pth", WRITERS[form], {"a": array}, message)


def assert_refused_of(path, write, thing, message, **options):
    write(path, thing, **options)
    assert_refused(path, message)


def assert_refused(path, message):
    with pytest.raises(InputError, match=message) as caught:
        checkpoints.read(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("options, message", [
    ({"packed": True}, "packed or overlap"),
    ({"byteorder": b"big"}, "not little-endian"),
    ({"spoil": lambda e: e.pop("archive/data/0")}, "lacks the storage archive/data/0"),
    ({"spoil": lambda e: e.pop("archive/data.pkl")}, "without one data.pkl"),
    ({"spoil": lambda e: e.update({"b/data.pkl": b""})}, "without one data.pkl"),
    ({"spoil": lambda e: e.update({"archive/data/0": b"1234"})}, "4 bytes for 6"),
    ({"spoil": lambda e: e.update({"archive/data.pkl": b""})}, "pickle"),
    ({"spoil": lambda e: e.update({"archive/data.pkl": bytes(9 * 2**20)})}, "is over"),
])
def test_refuses_bad_archives(tmp_path, options, message):
    thing = {"a": Array(np.ones((2, 3), "f4"))}
    assert_refused_of(tmp_path / "a.pth", write_zip, thing, message, **options)


@pytest.mark.parametrize("options, message", [
    ({"little": False}, "not little-endian"), ({"version": 1000}, "1000, not 1001")])
def test_refuses_other_legacy_files(tmp_path, options, message):
    thing = {"a": Array(np.ones((2, 3), "f4"))}
    assert_refused_of(tmp_path / "a.pth", write_legacy, thing, message, **options)


@pytest.mark.parametrize("form", WRITERS)
def test_every_truncation_is_refused(tmp_path, form):
    whole = tmp_path / "a.pth"
    WRITERS[form](whole, {"a": Array(np.ones((2, 3), "f4")), "n": 3})
    content = whole.read_bytes()
    for length in range(len(content)):
        whole.write_bytes(content[:length])
        with pytest.raises(InputError) as caught:
            checkpoints.read(whole)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", WRITERS)
def test_flipped_bytes_are_refused_or_harmless(tmp_path, form):
    whole = tmp_path / "a.pth"
    WRITERS[form](whole, {"a": Array(np.ones((2, 3), "f4")), "n": 3})
    content = bytearray(whole.read_bytes())
    for place in range(len(content)):
        changed = content.copy()
        changed[place] ^= 1 + place % 255
        whole.write_bytes(changed)
        try:
            found = checkpoints.read(whole)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert all(isinstance(array, np.ndarray) for array in found.values())


def test_a_file_that_promises_much_memory_gets_none(tmp_path):
    # A memo of 2^32 places, a string and a number of 2^40 bytes, a deep nest.
    limit = 2**31
    bombs = [
        b"\x80\x02}r\xff\xff\xff\xff.",
        b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
        b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
        b"\x80\x02" + b"(" * 10**5 + b"t" * 10**5 + b".",
        b"\x80\x02]" + b"2a" * 40 + b".",
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for bomb in bombs:
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            archive.writestr("archive/data.pkl", bomb)
        assert_refused(tmp_path / "a.pth", "not: ")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < limit / 8


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    write_zip(path, {"a": Array(np.ones((500,), "f4"))})
    content = bytearray(path.read_bytes())
    # The directory at the end: let the version claim the storage's size.
    place = content.rfind(b"archive/version") - 46
    content[place + 20:place + 28] = struct.pack("<II", 2000, 2000)
    path.write_bytes(content)
    assert_refused(path, "packed or overlap|damaged")


def test_other_operations_are_refused():
    for name in ("INST", "OBJ", "NEWOBJ", "EXT1", "DUP", "POP", "UNICODE"):
        with pytest.raises(ValueError, match=f"has the operation {name}"):
            torch_file._Machine().step(name, None)


def test_the_machine_agrees_with_pickle():
    things = [
        {"a": 1, "b": [2.5, None, True, False, -7, 2**70, 70000], "c": (), "d": (1,),
         "e": (1, 2), "f": (1, 2, 3), "g": (1, 2, 3, 4), "h": {}, 5: "text"},
        ["x" * 300, ["x" * 300, "y"], {"x": ["y"]}],
    ]
    for thing in things:
        for protocol in (2, 3, 4, 5):
            content = pickle.dumps(thing, protocol)
            assert torch_file.run(content + b"more") == (thing, len(content))
    content, _ = program(OrderedDict(things[0]))
    assert torch_file.run(content) == (things[0], len(content))
    names = {op.name for op, *_ in pickletools.genops(content)}
    assert {"SETITEMS", "TUPLE", "APPENDS", "LONG1", "REDUCE"} <= names


SAFE = {name: array for name, array in ARRAYS.items()}
CODES = {"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16",
         "i1": "I8", "u1": "U8", "b1": "BOOL"}


def write_safetensors(path, arrays, spoil=None, tail=b""):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        content = array.tobytes()
        header[name] = {"dtype": CODES[array.dtype.str[1:]],
                        "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    if spoil is not None:
        header = spoil(header)
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data + tail)


def test_reads_safetensors(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", ARRAYS)
    check(checkpoints.read(tmp_path / "a.safetensors"), ARRAYS)


def test_reads_bfloat16_of_safetensors(tmp_path):
    halves = np.array([0x3FC0, 0xC000], "u2")
    write_safetensors(tmp_path / "a", {"a": halves.view("i2")},
                      lambda h: h | {"a": h["a"] | {"dtype": "BF16"}})
    np.testing.assert_array_equal(checkpoints.read(tmp_path / "a")["a"], [1.5, -2.0])


def changed(**changes):
    return lambda header: {"a": header["a"] | changes}


@pytest.mark.parametrize("spoil, message", [
    (changed(shape=[2, 4]), r"shape \[2, 4\] and float32 has the bytes 0 to 24"),
    (changed(shape=[-2, -3]), "are no sizes"),
    (changed(shape=[2.0, 3]), "are no sizes"),
    (changed(shape=[True, 6]), "are no sizes"),
    (changed(shape=[10**30]), "bytes 0 to 24"),
    (changed(data_offsets=[0, 48], shape=[12]), "bytes 0 to 48 of 24"),
    (changed(data_offsets=[24, 0]), "are no sizes"),
    (changed(data_offsets=[4, 24], shape=[5]), "hole at byte 4"),
    (changed(data_offsets=[0, 20], shape=[5]), "4 bytes follow"),
    (changed(dtype="F8_E4M3"), "'F8_E4M3', which is not read here"),
    (changed(dtype=[]), "not read here"),
    (changed(more=1), "is not dtype, shape and data_offsets"),
    (lambda header: header | {"b": header["a"]}, "overlap"),
    (lambda header: {"a": 3}, "is not dtype"),
    (lambda header: b"{", "Expecting"),
    (lambda header: b"{" + b'"a":[' * 5000, "nested|Expecting"),
    (lambda header: b'{"a": 1, "a": 2}', "a name twice"),
    (lambda header: b"{\xff}", "decode"),
])
def test_refuses_bad_safetensors(tmp_path, spoil, message):
    write_safetensors(tmp_path / "a", {"a": np.ones((2, 3), "f4")}, spoil)
    assert_refused(tmp_path / "a", message)


def test_refuses_truncated_safetensors(tmp_path):
    path = tmp_path / "a"
    write_safetensors(path, {"a": np.ones((2, 3), "f4")})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            checkpoints.read(path)
    path.write_bytes(struct.pack("<Q", 2**63) + content[8:])
    assert_refused(path, "would have")


@pytest.mark.parametrize("content, message", [
    (None, "No such file"), (b"", "is not"), (b"hello, world", "of neither"),
    (b"\x89HDF\r\n\x1a\n0000", "--from=keras"),
    (b"PK\x03\x04rest", "archive is damaged"),
])
def test_other_files(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.pth").write_bytes(content)
    assert_refused(tmp_path / "a.pth", message)
    assert_refused(tmp_path, "directory")


@pytest.mark.peer
def test_reads_what_pytorch_writes(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    state = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4),
                                torch.nn.Linear(4, 2, bias=False)).state_dict()
    state |= {"turned": torch.arange(12.0).reshape(3, 4).t(),
              "every": torch.arange(10.0)[2:8:2], "double": torch.ones(2).double(),
              "half": torch.randn(3).half(), "brain": torch.randn(5).bfloat16(),
              "flags": torch.tensor([True, False]), "scalar": torch.tensor(3.5),
              "empty": torch.zeros(0, 3), "small": torch.tensor([-3]).char(),
              "parameter": torch.nn.Parameter(torch.ones(2))}
    expected = {name: (t.float() if t.dtype == torch.bfloat16 else t).detach().numpy()
                for name, t in state.items()}
    for new in (True, False):
        torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
        check(checkpoints.read(tmp_path / "a.pth"), expected)
        torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth",
                   _use_new_zipfile_serialization=new)
        assert_refused(tmp_path / "a.pth", "holds 'torch.nn.modules")
    safetensors.save_file({k: t.detach().contiguous() for k, t in state.items()},
                          tmp_path / "a.safetensors")
    found = checkpoints.read(tmp_path / "a.safetensors")
    check({name: found[name] for name in expected}, expected)
