"""Compares what the runtimes of a model folder answer to the same pictures.

The model in memory is the reference. Every file is loaded in a fresh process, so that
nothing but the file can give the answer. Boxes are matched one to one above the
card's threshold, not by index: near ties swap places.
"""

import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from mlcvtf import card as cards
from mlcvtf.video import predictor, track

# Largest differences that are accepted, by precision and output; a card's
# "parity_bounds" change them. Pixels of the given picture for boxes and landmarks;
# "unmatched" is the number of boxes that only one of two answers has, as a share of
# the reference's.
BOUNDS = {
    "float32": {"boxes": 0.5, "landmarks": 0.5, "scores": 1e-3, "embedding": 1e-4,
                "parts": 0.0, "probabilities": 1e-6, "unmatched": 0.0},
    "float16": {"boxes": 3.0, "landmarks": 3.0, "scores": 2e-2, "embedding": 1e-2,
                "unmatched": 0.0},
    "dynamic": {"boxes": math.inf, "landmarks": math.inf, "scores": 0.1,
                "embedding": 0.05, "unmatched": 0.1},
    "int8": {"boxes": math.inf, "landmarks": math.inf, "scores": 0.2,
             "embedding": 0.1, "unmatched": 0.2},
}
# Of boxes that need not be equal, partners overlap by this much at least: pixels say
# little about a face that fills a large picture.
PARTNERS = 0.7
# One process per line: TensorFlow must not be loaded where LiteRT runs.
PROCESSES = (("litert", "litert_float16", "litert_dynamic", "litert_int8"),
             ("saved_model", "keras"))
# Runs of the first picture that the time of a runtime is the median of.
TIMED_RUNS = 15


class ParityError(RuntimeError):
    """Says that two runtimes of one model disagree."""


def report(
    folder: str | pathlib.Path,
    reference,
    pictures: list[np.ndarray],
    threshold: float,
    bounds: dict | None = None,
    must_find: bool = True,
) -> dict:
    """Runs every runtime of a model folder and compares it with the reference.

    Both ways to call a model are compared: "serving_default" and the predictor.

    Args:
        folder: a complete model folder with its card.
        reference: function from a picture to a dict of arrays: the model in memory.
        pictures: uint8 `[height, width, 3]` each; or depth, float32 `[height, width]`.
        threshold: boxes that score less are not compared.
        bounds: precision to output to what replaces the number in `BOUNDS`.
        must_find: whether a detector that finds nothing in any picture is refused.

    Returns:
        {"pictures": int, "matched": number of boxes of the reference, "runtimes":
        {runtime: {output: {"largest": float, "mean": float}}}, "unmatched": {runtime:
        number of boxes that one answer alone has, in both ways}, "milliseconds":
        {runtime: for the first picture}}. JSON's types only.

    Raises:
        ParityError: the reference detects nothing at all, or a runtime fails, gives
            other boxes or labels, or an output that is not finite or differs by more
            than `BOUNDS` allow.
    """
    expected = [reference(picture) for picture in pictures]
    detections = [answer["scores"] for answer in expected if "boxes" in answer]
    matched = sum(int(np.sum(scores >= threshold)) for scores in detections)
    if must_find and detections and not matched:
        raise ParityError(
            f"a detector finds something in the pictures of its report, this one finds "
            f"nothing that scores {threshold}"
        )
    result = {"pictures": len(pictures), "matched": matched, "runtimes": {},
              "unmatched": {}, "milliseconds": {}}
    listed = {file.split("/")[0] for file in cards.read(folder)["files"]}
    there = {name for name, file in predictor.RUNTIMES.items() if file in listed}
    for runtimes in PROCESSES:
        chosen = [name for name in runtimes if name in there]
        if not chosen:
            continue
        answers, times = _in_fresh_process(folder, chosen, pictures)
        result["milliseconds"] |= times
        for runtime, ways in answers.items():
            precision = runtime.removeprefix("litert_")
            precision = precision if precision in BOUNDS else "float32"
            allowed = BOUNDS[precision] | (bounds or {}).get(precision, {})
            pairs = [pair for way in ways for pair in zip(expected, way, strict=True)]
            found, lost = _summary(pairs, threshold, runtime, allowed)
            result["runtimes"][runtime] = found
            result["unmatched"][runtime] = lost
    return result


def text(result: dict) -> str:
    """Writes a report as a table, one line per runtime and output."""
    lines = [f"parity on {result['pictures']} pictures, {result['matched']} boxes",
             f"{'runtime':<16}{'output':<12}{'largest':>12}{'mean':>12}"]
    for runtime, outputs in result["runtimes"].items():
        lines += [
            f"{runtime:<16}{name:<12}{value['largest']:>12.2e}{value['mean']:>12.2e}"
            for name, value in outputs.items()
        ]
    lines += [f"{runtime}: {lost} boxes that one answer alone has, in two ways to call"
              for runtime, lost in result["unmatched"].items() if lost]
    times = ", ".join(f"{name} {ms:.1f}" for name, ms in result["milliseconds"].items())
    return "\n".join([*lines, f"ms for the first picture: {times}"])


def _summary(pairs, threshold, runtime, allowed):
    collected, unmatched, boxes = {}, 0, 0
    for index, (expected, received) in enumerate(pairs):
        try:
            found, lost = differences(expected, received, threshold,
                                      allowed["scores"], allowed["unmatched"] > 0)
        except ParityError as error:
            raise ParityError(f"{runtime}, picture {index}: {error}") from None
        unmatched += lost
        if "boxes" in expected:
            boxes += int(np.sum(expected["scores"] >= threshold))
        for name, values in found.items():
            collected.setdefault(name, []).append(values.ravel())
    if unmatched > allowed["unmatched"] * boxes:
        raise ParityError(
            f"of {runtime} {allowed['unmatched']:.0%} of {boxes} boxes may have no "
            f"partner on the other side, received {unmatched}"
        )
    result = {}
    for name, values in collected.items():
        values = np.concatenate(values)
        largest = float(values.max(initial=0.0))
        mean = float(values.mean()) if values.size else 0.0
        result[name] = {"largest": largest, "mean": mean}
        # The bound is asked this way round so that NaN fails, too.
        if not largest <= allowed[name]:
            raise ParityError(
                f"{name} of {runtime} may differ by {allowed[name]} from the Keras "
                f"model, received {largest:.3g}"
            )
    return result, unmatched


def differences(
    expected: dict,
    received: dict,
    threshold: float,
    score_slack: float = 1e-3,
    lossy: bool = False,
) -> tuple[dict[str, np.ndarray], int]:
    """Compares two answers to one picture.

    Args:
        expected: outputs by name.
        received: outputs by name.
        threshold: detections with a lower score are left out.
        score_slack: how far under the threshold the partner of a detection may be.
        lossy: detections without a partner are counted, not refused; partners then
            overlap by `PARTNERS`.

    Returns:
        Output name to absolute differences (of all numbers for an embedding, of the
        matched boxes for a detector), and the number of detections without a partner.

    Raises:
        ParityError: names, shapes, labels or detections differ, or a number is not
            finite.
    """
    if sorted(expected) != sorted(received):
        raise ParityError(
            f"outputs are {sorted(expected)}, received {sorted(received)}"
        )
    for name, value in received.items():
        if not np.all(np.isfinite(value)):
            raise ParityError(f"{name} must be finite, received {value}")
    if "boxes" not in expected:
        names = sorted(expected)
        return {name: _absolute(expected[name], received[name]) for name in names}, 0
    for answer in (expected, received):
        if np.any(np.diff(answer["scores"]) > 0):
            raise ParityError("scores must descend, they do not")
    first, second, lost = _match(expected, received, threshold, score_slack, lossy)
    if np.any(expected["labels"][first] != received["labels"][second]):
        raise ParityError("matched boxes must have equal labels, they do not")
    found = {
        name: _absolute(expected[name][first], received[name][second])
        for name in sorted(expected)
        if name != "labels"
    }
    return found, lost


def _absolute(expected, received):
    if expected.shape != received.shape:
        raise ParityError(f"shape must be {expected.shape}, received {received.shape}")
    return np.abs(expected.astype(np.float64) - received)


def _match(expected, received, threshold, slack, lossy):
    """Pairs detections one to one, the closest boxes together.

    Returns:
        Indices into both, and how many have no partner.
    """
    from scipy.optimize import linear_sum_assignment

    # Of a full list the last ones may be others on both sides.
    for answer in (expected, received):
        if len(answer["scores"]) >= 100:
            threshold = max(threshold, float(answer["scores"].min()) + 2 * slack)
    answers = (expected, received)
    sure = [np.flatnonzero(a["scores"] >= threshold) for a in answers]
    near = [np.flatnonzero(a["scores"] >= threshold - slack) for a in answers]
    boxes = [a["boxes"][n].astype(np.float64)
             for a, n in zip(answers, near, strict=True)]
    cost = np.abs(boxes[0][:, None] - boxes[1][None]).max(axis=-1)
    rows, columns = linear_sum_assignment(cost)
    if lossy:
        near_enough = track.overlaps(*boxes)[rows, columns] >= PARTNERS
        rows, columns = rows[near_enough], columns[near_enough]
    first, second = near[0][rows], near[1][columns]
    lost = len(np.setdiff1d(sure[0], first)), len(np.setdiff1d(sure[1], second))
    if any(lost) and not lossy:
        raise ParityError(f"detections must match one to one, {lost[0]} are missing "
                          f"and {lost[1]} too many")
    keep = np.isin(first, sure[0]) | np.isin(second, sure[1])
    return first[keep], second[keep], sum(lost)


def _in_fresh_process(folder, runtimes, pictures):
    """Runs what `_answer` says.

    Returns:
        Runtime to its answers by "serving_default" and by the predictor, and runtime
        to milliseconds.
    """
    with tempfile.TemporaryDirectory() as scratch:
        given = os.path.join(scratch, "pictures.npz")
        answers = os.path.join(scratch, "answers.npz")
        np.savez(given, *pictures)
        environment = dict(os.environ)
        root = str(pathlib.Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [root, environment.get("PYTHONPATH")])
        )
        process = subprocess.run(
            [sys.executable, "-m", "mlcvtf.export.parity", str(folder), given, answers,
             *runtimes],
            env=environment, capture_output=True, text=True,
        )
        if process.returncode:
            raise ParityError(
                f"{' and '.join(runtimes)} must load and run in a fresh process; "
                f"received {process.stderr.strip()[-2000:]}"
            )
        with np.load(answers) as archive:
            flat = dict(archive)
    result = {name: ([{} for _ in pictures], [{} for _ in pictures])
              for name in runtimes}
    times = {}
    for key, value in flat.items():
        runtime, way, index, output = json.loads(key)
        if output == "milliseconds":
            times[runtime] = round(float(value), 2)
        else:
            result[runtime][way][index][output] = value
    return result, times


def _answer(folder, given, answers, *runtimes):
    """Runs in the fresh process."""
    with np.load(given) as archive:
        pictures = [archive[f"arr_{i}"] for i in range(len(archive.files))]
    results = {}
    for runtime in runtimes:
        model = predictor.load(folder, runtime)
        for way, call in enumerate((model.signatures["serving_default"], model)):
            for index, picture in enumerate(pictures):
                for output, value in call(picture).items():
                    results[json.dumps([runtime, way, index, output])] = value
        times = []
        for _ in range(TIMED_RUNS):
            start = time.perf_counter()
            model(pictures[0])
            times.append(1000 * (time.perf_counter() - start))
        results[json.dumps([runtime, 0, 0, "milliseconds"])] = np.median(times)
    np.savez(answers, **results)
    if runtimes[0].startswith("litert") and "tensorflow" in sys.modules:
        raise RuntimeError("With LiteRT TensorFlow is never imported, but it was")


if __name__ == "__main__":
    _answer(*sys.argv[1:])
