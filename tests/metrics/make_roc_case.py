"""Makes `roc_case.json`: random pairs with the curve of scikit-learn.

    python3 -m venv /tmp/peers
    /tmp/peers/bin/pip install scikit-learn numpy
    /tmp/peers/bin/python tests/metrics/make_roc_case.py
"""

import json
import pathlib

import numpy as np
from sklearn.metrics import roc_curve


def main():
    """Writes the fixture; the infinite first threshold is left out of the JSON."""
    rng = np.random.default_rng(7)
    same = rng.random(80) < 0.4
    scores = (rng.normal(0, 1, 80) + 1.5 * same).round(1)
    far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
    case = {"scores": scores.tolist(), "same": same.tolist(), "far": far.tolist(),
            "tar": tar.tolist(), "thresholds": thresholds[1:].tolist()}
    path = pathlib.Path(__file__).with_name("roc_case.json")
    path.write_text(json.dumps(case, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
