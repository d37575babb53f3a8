"""The architecture of design, section 2, and the house style, as an `ast` walk."""

import ast
import os
import re
import subprocess
import sys
import time

import pytest

from tests.case import ROOT, child

PACKAGE = ROOT / "mlcvtf"
SOURCES = sorted(PACKAGE.rglob("*.py"))
APPS = sorted(p for p in (ROOT / "apps").iterdir() if p.is_file())
PROGRAMS = sorted(p for p in (ROOT / "benchmarks").iterdir() if p.is_file())

# Areas that an area may import, besides itself and the leaves of the standard library.
FREE = {"errors", "card", "models_folder"}
PARTS = {"ops"}
BLOCKS = PARTS | {"layers", "losses", "metrics", "optimizers"}
TASK_NAMES = {"classification", "detection", "segmentation", "depth", "embedding",
              "generative"}
BACKED = BLOCKS | {"backbones"}
MODELS = BACKED | TASK_NAMES
WIRED = MODELS | {"weights", "configs", "data", "export", "training", "explain"}
MAY_IMPORT = {
    "ops": set(),
    **{area: PARTS for area in ("layers", "losses", "metrics", "optimizers")},
    "backbones": BLOCKS,
    **{area: BACKED for area in TASK_NAMES},
    "explain": PARTS,
    "data": set(),
    "export": set(),
    "video": set(),
    "weights": MODELS,
    "configs": WIRED,
    "training": WIRED,
    "commands": WIRED | {"video", "commands"},
}
# Lines that cross these rules, each with its reason.
CROSSINGS = {
    # One convention of what a face box is: the data sets compute it with the same
    # code, numpy only, that the apps align with.
    ("data", "embedding.alignment"),
    # Names and pictures as users have them are read in one way everywhere.
    ("embedding", "video.paths"),
    ("embedding", "video.pictures"),
    ("segmentation", "video.paths"),
    ("data", "video.paths"),
    ("data", "video.pictures"),
    # Parity is measured on what the apps run, and the apps read the same contract.
    ("export", "video.predictor"),
    ("export", "video.track"),
    ("video", "export.keras_file"),
    ("video", "export.signatures"),
    # A detector's second look at landmarks is one piece of arithmetic for training's
    # verb and for exported graphs.
    ("export", "ops.heatmaps"),
    # Which form a grouped convolution has depends on the runtime that is written for.
    ("export", "layers.grouped_convolution"),
}
# The files that reach behind Keras's public interface: they cure what Keras lacks on
# several devices and state the versions that they are for.
BEHIND = {"mlcvtf/training/keras_distribution.py", "mlcvtf/training/jax_devices.py"}
NO_TENSORFLOW = BLOCKS | {"backbones"} | TASK_NAMES
HEAVY = {"numpy", "cv2", "tensorflow", "keras", "ml_collections", "PIL", "scipy",
         "matplotlib", "skimage", "numba", "ai_edge_litert"}
FORBIDDEN_NAMES = {"utils", "util", "misc", "common", "helpers", "helper"}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
KERAS_METHODS = {"build", "call", "get_config", "from_config", "compute_output_shape",
                 "compute_output_spec", "compute_mask", "update_state", "result",
                 "reset_state", "compute_loss", "get_build_config", "build_from_config"}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def area_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(tree):
    """Yields (node, dotted name) of everything that is imported anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node, f"{'.' * node.level}{node.module or ''}.{alias.name}"


def at_import(statements):
    """Yields the statements that run when a module is imported, in any nesting."""
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and re.search(
            "TYPE_CHECKING|__name__ == '__main__'", ast.unparse(node.test)
        ):
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from at_import(getattr(node, field, ()))


def imported_at_import(tree):
    """Returns the top-level packages that a module imports while it is imported."""
    top = ast.Module(
        [n for n in at_import(tree.body) if isinstance(n, ast.Import | ast.ImportFrom)],
        type_ignores=[],
    )
    return {name.split(".")[0] for _, name in imports(top)}


def has_cli(tree):
    """Says whether a module is a command, started by its function `cli`."""
    return any(isinstance(n, ast.FunctionDef) and n.name == "cli" for n in tree.body)


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=[name_of(p) for p in paths])


@each(SOURCES)
def test_imports_go_downwards(path):
    area = area_of(path)
    if area in FREE or area == "__init__":
        allowed = FREE
    else:
        assert area in MAY_IMPORT, f"{area} needs a line in MAY_IMPORT"
        allowed = MAY_IMPORT[area] | FREE | {area}
    for node, name in imports(tree_of(path)):
        assert not name.startswith("."), f"line {node.lineno}: import by full name"
        if not name.startswith("mlcvtf."):
            continue
        target = name.removeprefix("mlcvtf.")
        crosses = any(area == where and target.startswith(what)
                      for where, what in CROSSINGS)
        assert target.split(".")[0] in allowed or crosses, (
            f"line {node.lineno}: {area} may not import {target}"
        )


@each(SOURCES)
def test_leaves_and_packages_are_light(path):
    tree = tree_of(path)
    names = imported_at_import(tree)
    if area_of(path) in FREE:
        assert names <= set(sys.stdlib_module_names) | {"mlcvtf"}
    elif path.name == "__init__.py" or has_cli(tree):
        assert not names & HEAVY, "heavy imports come after the flags are parsed"
    elif area_of(path) == "video" or name_of(path) in (
        "mlcvtf/embedding/gallery.py", "mlcvtf/embedding/alignment.py",
        "mlcvtf/embedding/calibration.py", "mlcvtf/metrics/verification.py",
    ):
        assert not names & {"tensorflow", "keras", "tf_keras"}


@each(SOURCES)
def test_tensorflow_only_where_a_file_says_so(path):
    tree = tree_of(path)
    names = {name.split(".")[0] for _, name in imports(tree)}
    assert not names & {"tf_keras", "tensorflow_addons", "keras_cv", "official"}
    if area_of(path) in NO_TENSORFLOW and "tensorflow" in names:
        first_line = (ast.get_docstring(tree) or "").split("\n")[0]
        assert "TensorFlow" in first_line, "its docstring's first line must say so"
    if area_of(path) == "data":
        # A reader may be a keras.utils.PyDataset, but keras.ops cannot run inside
        # Dataset.map when JAX is the backend.
        text = ast.unparse(tree)
        assert not re.search(r"keras\.(ops|layers)|from keras import", text)


@each([path for path in SOURCES if name_of(path) not in BEHIND])
def test_no_private_or_experimental_interface(path):
    tree = tree_of(path)
    roots = set()
    for node, name in imports(tree):
        parts = name.strip(".").split(".")
        if parts[0] in ("mlcvtf", "__future__"):
            continue
        for part in parts:
            assert part == "__version__" or not part.startswith("_"), (
                f"line {node.lineno}: {name} is private")
        assert parts[:2] not in (["keras", "src"], ["tensorflow", "python"]), (
            f"line {node.lineno}: {name} is private")
        for alias in node.names:
            roots.add(alias.asname or alias.name.split(".")[0])
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        where = f"line {node.lineno}: {ast.unparse(node)}"
        assert "experimental" not in node.attr.lower(), where
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id in roots:
            private = node.attr.startswith("_") and not node.attr.endswith("__")
            assert not private, where


@each(SOURCES)
def test_nothing_that_the_house_rules_out(path):
    assert not FORBIDDEN_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)
    tree = tree_of(path)
    for node, name in imports(tree):
        assert name.split(".")[0] not in PICKLES, f"line {node.lineno}: {name}"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: assert"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert getattr(node.value, "value", None) is False


@each(SOURCES)
def test_importing_runs_definitions_only(path):
    for node in at_import(tree_of(path).body):
        where = f"line {getattr(node, 'lineno', 0)}: {ast.unparse(node)[:60]}"
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                assert isinstance(target, ast.Name | ast.Tuple), where
        elif isinstance(node, ast.Expr):
            documentation = isinstance(node.value, ast.Constant)
            flag = re.match(r"flags\.(DEFINE|mark)_|\w+\.define_flags\(",
                            ast.unparse(node.value))
            assert documentation or flag, where
        else:
            assert isinstance(
                node, ast.Import | ast.ImportFrom | ast.ClassDef | ast.Pass | ast.If
            ), where


@each(SOURCES + PROGRAMS)
def test_files_and_functions_are_short(path):
    if path.suffix not in ("", ".py"):
        pytest.skip("not Python")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LONGEST_FILE
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = code_lines(node, lines)
            assert count <= LONGEST_FUNCTION, f"{node.name} has {count} lines of code"


def code_lines(function, lines):
    """Counts a function's lines without its docstring, comments and blanks."""
    body = function.body
    start = body[0].lineno
    if ast.get_docstring(function) is not None:
        start = body[0].end_lineno + 1
    inside = (line.strip() for line in lines[start - 1:function.end_lineno])
    return sum(bool(line) and not line.startswith("#") for line in inside)


@each(SOURCES)
def test_public_methods_are_documented(path):
    for owner in ast.walk(tree_of(path)):
        if not isinstance(owner, ast.ClassDef) or owner.name.startswith("_"):
            continue
        for node in owner.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                known = node.name in KERAS_METHODS or node.name.startswith("on_")
                setter = any("setter" in ast.unparse(d) for d in node.decorator_list)
                documented = ast.get_docstring(node) is not None
                assert known or setter or documented, f"{owner.name}.{node.name}"


def test_packages_are_one_level_deep():
    deep = {"detection/viola_jones", "segmentation/body_parts"}
    for path in SOURCES:
        folder = path.parent.relative_to(PACKAGE).as_posix()
        assert folder.count("/") == 0 or folder in deep, name_of(path)


def test_importing_everything_changes_nothing(tmp_path):
    """Walks all modules in a child whose home and folder must stay empty."""
    code = """
import importlib, os, pathlib, sys, warnings
import cv2, keras, matplotlib.pyplot, numpy, scipy.optimize, skimage, tensorflow
for path in pathlib.Path(sys.argv[1]).rglob("*"):
    path.is_file() and path.unlink()
before = dict(os.environ), list(warnings.filters), sys.path[:]
for name in sys.argv[2:]:
    importlib.import_module(name)
assert dict(os.environ) == before[0], set(os.environ) ^ set(before[0])
assert list(warnings.filters) == before[1], "a warning filter"
assert sys.path == before[2], "sys.path"
print(sorted(p.name for p in pathlib.Path(sys.argv[1]).rglob("*")
             if p.is_file()))
"""
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in SOURCES]
    result = child(
        ["-c", code, tmp_path, *(m.removesuffix(".__init__") for m in modules)],
        HOME=str(tmp_path), TMPDIR=str(tmp_path), PYTHONDONTWRITEBYTECODE="1",
        MPLCONFIGDIR=str(tmp_path / "matplotlib"), KERAS_HOME=str(tmp_path / ".keras"),
        NUMBA_CACHE_DIR=str(tmp_path / "numba"),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]", "files were written"


@each(APPS)
def test_app_is_a_short_executable(path):
    text = path.read_text(encoding="utf-8")
    assert path.suffix == "" and os.access(path, os.X_OK)
    assert text.startswith("#!/usr/bin/env python3\n")
    assert len(text.splitlines()) <= 40
    assert (PACKAGE / "commands" / f"{path.name}.py").is_file()


@each(APPS)
def test_help_answers_at_once_and_imports_nothing_heavy(path):
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        result = subprocess.run(
            [sys.executable, path, "--help"], capture_output=True, text=True,
            timeout=60,
        )
        seconds.append(time.perf_counter() - start)
        assert result.returncode == 0, result.stderr
        assert "--" in result.stdout and result.stderr == ""
    assert min(seconds) < 0.3, f"--help took {min(seconds):.2f} s at best"
    code = (
        "import runpy, sys\n"
        "sys.argv = [sys.argv[1], '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    loaded = child(["-c", code, path]).stdout.splitlines()[-1].split()
    assert not HEAVY & set(loaded)


@each(APPS)
def test_a_flag_error_is_one_line_and_code_2(path):
    result = child([path, "--no-such-flag=1"])
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and "no-such-flag" in result.stderr


def test_ruff_is_silent():
    pytest.importorskip("ruff", reason="needs ruff (the extra dev)")
    result = child(["-m", "ruff", "check", "--output-format=concise", "."])
    assert result.returncode == 0, result.stdout
