import json
import zipfile

import keras
import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.export import keras_file
from tests.case import child
from tests.conformance.descriptors import build


def test_imports_the_classes_that_a_file_names(tmp_path):
    model = build("image_classifier")
    model.save(tmp_path / "model.keras")
    picture = np.full((1, 64, 64, 3), 100.0, "float32")
    np.save(tmp_path / "expected.npy", np.asarray(model(picture)["logits"]))
    # In a process that has imported no model yet.
    code = f"""
import numpy as np
from mlcvtf.export import keras_file
model = keras_file.load({str(tmp_path / "model.keras")!r})
found = np.asarray(model(np.full((1, 64, 64, 3), 100.0, "float32"))["logits"])
np.testing.assert_allclose(found, np.load({str(tmp_path / "expected.npy")!r}), 1e-5)
"""
    process = child(["-c", code])
    assert process.returncode == 0, process.stderr


def test_finds_modules_at_any_depth():
    config = {"module": "mlcvtf.a", "config": [{"x": {"module": "mlcvtf.b.c"}}, 3],
              "other": {"module": "keras.layers"}, "odd": {"module": None}, "none": {}}
    assert keras_file.modules(config) == {"mlcvtf.a", "mlcvtf.b.c"}


def test_what_is_no_model_is_refused_in_one_line(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(InputError, match="cannot read .*No such file"):
        keras_file.load(path)
    for content in (b"", b"PK\x03\x04 and nothing more"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot read .*not a zip"):
            keras_file.load(path)
    for config in ("{", "[]", json.dumps({"module": "mlcvtf.no_such"}), None):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("other" if config is None else "config.json", config or "")
        with pytest.raises(InputError) as caught:
            keras_file.load(path)
        assert "\n" not in str(caught.value)
    keras.Sequential([keras.layers.Dense(2)]).save(path)
    assert isinstance(keras_file.load(path), keras.Sequential)
