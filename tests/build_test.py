"""BUILD names every source, app, benchmark, model file and test.

`make build-file` rewrites it from what is there; the test below reads it as it
stands, so a file that was added or deleted without a word in BUILD is noticed.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADER = '''\
# Targets of Bazel (rules_python): the package by area, the apps, the benchmarks and
# the tests. Every file is listed by name, so that a change of the tree is seen in
# review; `make build-file` writes the lists and tests/build_test.py compares them
# with the tree. Dependencies from PyPI are those of pyproject.toml.

load("@rules_python//python:defs.bzl", "py_library", "py_test")
load("@rules_shell//shell:sh_binary.bzl", "sh_binary")

package(default_visibility = ["//visibility:public"])

licenses(["notice"])

exports_files(["LICENSE"])
'''


def files(*patterns):
    """Returns the paths under the root that match, sorted.

    Caches, and hidden folders, such as an export makes while it writes, are left out.
    """
    found = {p.relative_to(ROOT) for pattern in patterns for p in ROOT.glob(pattern)
             if p.is_file()}
    return sorted(path.as_posix() for path in found
                  if not any(part.startswith((".", "__pycache__"))
                             for part in path.parts))


def expected():
    """Returns {target: (rule, sources, data, deps)} of the tree as it is."""
    targets = {}
    areas = sorted({pathlib.PurePath(n).parts[1] for n in files("mlcvtf/*/**/*.py")})
    for area in areas:
        targets[area] = ("py_library", files(f"mlcvtf/{area}/**/*.py"), [], [])
    targets["models"] = ("filegroup", files("saved_models/**/*"), [], [])
    targets["mlcvtf"] = ("py_library", files("mlcvtf/*.py"), [":models"],
                         [f":{area}" for area in areas])
    for name in files("apps/*", "benchmarks/*"):
        if not pathlib.PurePath(name).suffix:
            # A target may not have the name of its own source.
            label = name.replace("apps/", "mlcvtf-").replace("/", "-").replace("_", "-")
            targets[label] = ("sh_binary", [name], [":mlcvtf"], [])
    modules = files("benchmarks/*.py")
    if modules:
        targets["benchmarks"] = ("py_library", modules, [], [":mlcvtf"])
    tests = files("tests/**/*.py")
    shared = [name for name in tests if not name.endswith("_test.py")]
    extra = files("tests/**/*") + files("Makefile", "pyproject.toml", "BUILD")
    targets["case"] = ("py_library", shared,
                       [n for n in extra if not n.endswith(".py")], [":mlcvtf"])
    programs = [f":{n}" for n in targets if targets[n][0] == "sh_binary"]
    for name in tests:
        if name not in shared:
            targets[name.removesuffix(".py")] = ("py_test", [name], programs, [":case"])
    return targets


def render(targets):
    """Writes targets as a BUILD file."""
    text = HEADER
    for name, (rule, sources, data, deps) in targets.items():
        text += f"\n{rule}(\n    name = {quote(name)},\n"
        text += listing("srcs", sources)
        if rule == "py_test":
            text += f"    main = {quote(sources[0])},\n    data = PROGRAMS,\n"
        else:
            text += listing("data", data)
        text += listing("deps", deps) + ")\n"
    programs = [f":{n}" for n in targets if targets[n][0] == "sh_binary"]
    constant = "\nPROGRAMS = [\n" + "".join(f"    {quote(n)},\n" for n in programs)
    return text.replace("\npackage(", constant + "]\n\npackage(", 1)


def quote(name):
    return f'"{name}"'


def listing(attribute, names):
    if not names:
        return ""
    if len(names) == 1:
        return f"    {attribute} = [{quote(names[0])}],\n"
    inner = "".join(f"        {quote(name)},\n" for name in names)
    return f"    {attribute} = [\n{inner}    ],\n"


def read(text):
    """Runs a BUILD file, which is a subset of Python, and collects its targets."""
    targets = {}

    def rule(kind):
        def define(name, srcs=(), data=(), deps=(), main=None):
            assert name not in targets, f"two targets {name}"
            targets[name] = (kind, list(srcs), list(data), list(deps))
        return define

    rules = ("py_library", "py_test", "sh_binary", "filegroup")
    ignored = ("load", "package", "licenses", "exports_files")
    scope = {"__builtins__": {}, **{kind: rule(kind) for kind in rules},
             **{name: lambda *_, **__: None for name in ignored}}
    exec(compile(text, "BUILD", "exec"), scope)
    return targets


def test_every_file_is_listed_and_every_listed_file_is_there():
    listed = read((ROOT / "BUILD").read_text(encoding="utf-8"))
    there = expected()
    for name, target in there.items():
        assert name in listed, f"BUILD lacks {name}: make build-file"
        for column, what in enumerate(("rule", "srcs", "data", "deps")):
            have, need = sorted(listed[name][column]), sorted(target[column])
            assert have == need, f"{what} of {name}: make build-file"
    assert set(listed) == set(there), "targets of files that are gone"


def test_a_missing_source_is_noticed():
    text = render(expected())
    assert read(text) == {n: (r, s, d, p) for n, (r, s, d, p) in expected().items()}
    cut = text.replace('        "mlcvtf/card.py",\n', "", 1)
    assert cut != text
    assert read(cut)["mlcvtf"] != expected()["mlcvtf"]


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/build_test.py --write")
    (ROOT / "BUILD").write_text(render(expected()), encoding="utf-8")
