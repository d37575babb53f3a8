"""pyproject.toml, the frame's files and the wheel agree with the tree."""

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest

from mlcvtf import models_folder
from mlcvtf.errors import InputError
from tests.case import ROOT, child

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CORE = {"tensorflow", "keras", "ai-edge-litert", "numpy", "scipy",
        "opencv-python-headless", "absl-py", "ml-collections", "pillow", "matplotlib",
        "scikit-image", "tqdm", "numba"}
EXTRAS = {"gui", "train", "jax", "coco", "hub", "peers", "dev", "quantize"}


def normalised(requirement):
    name = re.match(r"[\w.-]+", requirement).group()
    return re.sub(r"[-_.]+", "-", name).lower()


def packages():
    """Returns the packages that the tree has, by folder."""
    found = {".".join(p.parent.relative_to(ROOT).parts)
             for p in (ROOT / "mlcvtf").rglob("__init__.py")}
    return found | {"mlcvtf.saved_models"}


def commands():
    """Returns the commands that the tree has: modules with a function `cli`."""
    folder = ROOT / "mlcvtf" / "commands"
    return {p.stem for p in folder.glob("*.py") if "\ndef cli(" in p.read_text()}


def test_dependencies_are_those_that_were_agreed():
    project = PROJECT["project"]
    assert {normalised(r) for r in project["dependencies"]} == CORE
    assert set(project["optional-dependencies"]) == EXTRAS
    assert "tensorflow>=2.20" in project["dependencies"]
    assert "keras>=3.15" in project["dependencies"]
    assert project["requires-python"] == ">=3.11,<3.14"


def test_every_package_is_installed():
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages()


def test_every_command_is_a_script_and_an_app():
    scripts = {f"mlcvtf-{name.replace('_', '-')}": f"mlcvtf.commands.{name}:cli"
               for name in commands()}
    assert PROJECT["project"]["scripts"] == scripts
    assert {p.name for p in (ROOT / "apps").iterdir() if p.is_file()} == commands()


def test_the_frame_is_there():
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "BUILD",
                 "Makefile", "saved_models/LICENSE.md", "docs/faces.md"):
        assert (ROOT / name).stat().st_size > 500, name
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert len((ROOT / "setup.py").read_text().splitlines()) == 2
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence


def test_links_in_the_documentation_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"),
             *(ROOT / "saved_models").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_makefile_has_what_the_readme_names():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    readme = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"\bmake ([a-z-]+)`", readme)) <= targets


def test_the_two_opencv_wheels_have_one_version():
    versions = []
    for name in ("opencv-python-headless", "opencv-python"):
        try:
            versions.append(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue
    if len(versions) < 2:
        pytest.skip("the extra gui is not installed")
    assert versions[0] == versions[1]


def test_models_are_found_in_a_checkout_and_in_an_installed_package(
        monkeypatch, tmp_path):
    package = tmp_path / "site" / "mlcvtf"
    package.mkdir(parents=True)
    monkeypatch.setattr(models_folder, "__file__", str(package / "models_folder.py"))
    with pytest.raises(InputError, match="found none in"):
        models_folder.shipped_models()
    beside = tmp_path / "site" / "saved_models" / "face_detector"
    beside.mkdir(parents=True)
    (beside / "card.json").write_text("{}")
    assert models_folder.shipped_models() == beside.parent
    inside = package / "saved_models" / "face_detector"
    inside.mkdir(parents=True)
    assert models_folder.shipped_models() == beside.parent, "a folder without a model"
    (inside / "card.json").write_text("{}")
    assert models_folder.shipped_models() == inside.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Builds the wheel from a copy, offline, with the setuptools that is here."""
    pytest.importorskip("setuptools", "77", reason="needs setuptools >= 77 to build")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("mlcvtf", "saved_models", "pyproject.toml", "setup.py", "README.md",
                 "LICENSE"):
        subprocess.run(["cp", "-r", ROOT / name, source / name], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps",
         "--no-build-isolation", "--no-index", "--wheel-dir", folder, source],
        check=True, timeout=300,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_carries_every_module_and_model(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "mlcvtf").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in names
    models = [p for p in (ROOT / "saved_models").rglob("*") if p.is_file()]
    for path in models:
        assert f"mlcvtf/{path.relative_to(ROOT).as_posix()}" in names
    assert not any(name.startswith(("tests/", "apps/")) for name in names)


def test_models_are_found_from_an_unpacked_wheel(wheel, tmp_path):
    if not list((ROOT / "saved_models").glob("*/card.json")):
        pytest.skip("no model is shipped yet")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (f"import sys; sys.path[0] = {str(tmp_path)!r}\n"
            "from mlcvtf.models_folder import shipped_models; print(shipped_models())")
    result = child(["-c", code])
    assert pathlib.Path(result.stdout.strip()) == tmp_path / "mlcvtf" / "saved_models"
