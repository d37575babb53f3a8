"""face_verify --images ZIP|DIR --pairs CSV [--folds=5,6] [--roc FILE.png] [flags]

Measures face verification: are the two pictures of a pair of one person?

The CSV has a header and the columns fold, file1, file2 and same (1 or 0). Each fold is
judged with the threshold that is best for all the others; the figure is the mean over
folds and its standard error. A picture in which no face is found is embedded whole; of
several faces the most central counts. A true accept rate (TAR) is printed where the
pairs allow it: pairs of two people x false accept rate (FAR) >= 5.
"""

import csv
import os
import sys

from absl import flags

from mlcvtf.commands import command, video_app
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "images", None, "ZIP archive or folder with the pictures.", flag_values=FLAGS)
flags.DEFINE_string(
    "pairs", None, "CSV with the columns fold, file1, file2, same.", flag_values=FLAGS)
flags.DEFINE_list(
    "folds", None, "Folds of the CSV to use, all by default.", flag_values=FLAGS)
flags.DEFINE_string(
    "models", None, "Folder with the models face_detector and face_embedder; the "
    "shipped ones by default.", flag_values=FLAGS)
flags.DEFINE_enum(
    "runtime", "auto", video_app.RUNTIMES, "What runs the models; auto "
    "takes LiteRT where the model has a .tflite file.", flag_values=FLAGS)
flags.DEFINE_enum(
    "detector", "centernet", video_app.DETECTORS, video_app.DETECTOR_HELP,
    flag_values=FLAGS)
flags.DEFINE_string(
    "roc", None, "Picture (.png, .svg or .pdf) to draw the curve of true against false "
    "accepts in.", flag_values=FLAGS)
flags.DEFINE_string(
    "json", None, "File for the figures, or - for standard output instead of the "
    "text.", flag_values=FLAGS)
flags.mark_flags_as_required(["images", "pairs"], flag_values=FLAGS)

COLUMNS = ("fold", "file1", "file2", "same")
FALSE_ACCEPT_RATES = (1e-1, 1e-2, 1e-3)
CURVE_FORMATS = (".png", ".svg", ".pdf")


def main(argv: list[str]) -> None:
    """Runs the command."""
    if argv:
        raise flags.Error(f"arguments are flags (--name=value), received {argv[0]}")
    pairs = select_folds(read_pairs(FLAGS.pairs), FLAGS.folds)
    _check_outputs()

    import json

    from mlcvtf.commands.face_pipeline import FacePipeline
    from mlcvtf.commands.picture_set import PictureSet

    with PictureSet(FLAGS.images) as pictures:
        pictures.require(files(pairs))
        pipeline = FacePipeline(FLAGS.models, FLAGS.runtime, detector=FLAGS.detector)
        figures, scores = verify(pictures, pairs, pipeline)
    if FLAGS.roc:
        draw_curve(FLAGS.roc, scores, [pair["same"] for pair in pairs])
    text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
    if FLAGS.json == "-":
        sys.stdout.write(text)
        return
    if FLAGS.json:
        with open(FLAGS.json, "w", encoding="utf-8") as file:
            file.write(text)
    print("\n".join(describe(figures)))


def find_pairs(folder: str) -> tuple:
    """Finds the table of pairs in a folder, and the archive or folder of pictures.

    Args:
        folder: holds one CSV file with the columns of `COLUMNS`, and one ZIP archive,
            or a folder `images`, or the pictures themselves.

    Returns:
        The path of the table and that of the pictures.

    Raises:
        InputError: there is no such folder, or not one table and one archive.
    """
    import pathlib

    from mlcvtf.data.archives import read_table
    from mlcvtf.video.paths import printable

    place, shown = pathlib.Path(folder), printable(folder)
    if not place.is_dir():
        raise InputError(f"a data set is a folder, {shown} is none")
    tables = [path for path in sorted(place.glob("*.csv"))
              if set(COLUMNS) <= set(next(iter(read_table(path)), {}))]
    if len(tables) != 1:
        raise InputError(f"a set of pairs has one CSV with the columns "
                         f"{', '.join(COLUMNS)}, {shown} has {len(tables) or 'none'}")
    archives = sorted(place.glob("*.zip"))
    if len(archives) > 1:
        raise InputError(f"a set of pairs has one ZIP archive of pictures, {shown} has "
                         f"{len(archives)}")
    images = place / "images"
    return tables[0], (archives or [images if images.is_dir() else place])[0]


def read_pairs(path: str) -> list[dict]:
    """Reads the table of pairs.

    Args:
        path: a CSV file with the columns of `COLUMNS`.

    Returns:
        A dict per pair: `fold`, `file1`, `file2` as text and `same` as bool.

    Raises:
        InputError: the file cannot be read, lacks a column, or has a row that is no
            pair.
    """
    from mlcvtf.video.paths import printable

    shown = printable(path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = list(reader)
    except OSError as error:
        raise InputError(f"pairs come from a readable CSV file, {shown}: "
                         f"{error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"pairs come from a CSV file in UTF-8, {shown} is none: "
                         f"{error}") from None
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise InputError(f"a table of pairs has the columns {', '.join(COLUMNS)}, "
                         f"{shown} lacks {', '.join(missing)}")
    if not rows:
        raise InputError(f"a table of pairs has rows, {shown} has none")
    for number, row in enumerate(rows, start=2):
        values = [row[name] for name in COLUMNS]
        if None in values or "" in values or row["same"] not in ("0", "1"):
            raise InputError(f"a pair has a fold, two files and same = 1 or 0, row "
                             f"{number} of {shown} is {printable(str(values))}")
    return [{name: row[name] for name in COLUMNS} | {"same": row["same"] == "1"}
            for row in rows]


def select_folds(pairs: list[dict], folds: list[str] | None) -> list[dict]:
    """Returns the pairs of some folds.

    Args:
        pairs: as of `read_pairs`.
        folds: names of folds; None or empty for all.

    Raises:
        InputError: a fold is not there, there are fewer than two, or pairs of one kind
            lack in one.
    """
    known = dict.fromkeys(pair["fold"] for pair in pairs)
    folds = list(dict.fromkeys(folds or known))
    unknown = [fold for fold in folds if fold not in known]
    if unknown:
        raise InputError("folds to use are among those of the table "
                         f"({', '.join(known)}), received {', '.join(unknown)}")
    if len(folds) < 2:
        raise InputError("each fold is judged by the others, so there are two or more; "
                         f"received {', '.join(folds)}")
    for fold in folds:
        if len({pair["same"] for pair in pairs if pair["fold"] == fold}) < 2:
            raise InputError("each fold has pairs of one person and of two, fold "
                             f"{fold} has one kind only")
    return [pair for pair in pairs if pair["fold"] in folds]


def files(pairs: list[dict]) -> list[str]:
    """Lists the files of pairs."""
    return [name for pair in pairs for name in (pair["file1"], pair["file2"])]


def verify(pictures, pairs: list[dict], pipeline, skipped: dict | None = None) -> tuple:
    """Embeds the pictures of pairs and measures verification.

    Args:
        pictures: a `picture_set.PictureSet`.
        pairs: as of `select_folds`.
        pipeline: a `face_pipeline.FacePipeline`.
        skipped: gets the name of each picture that cannot be used, to the reason; its
            pairs are left out. By default such a picture is an error.

    Returns:
        The figures, of JSON's types, and the score of each pair that was measured,
        float64 `[n]`.

    Raises:
        InputError: a picture cannot be used, or too few pairs are left.
    """
    from mlcvtf.commands.picture_set import embed

    embedded = embed(pictures, files(pairs), pipeline, skipped)
    if skipped:
        folds = list(dict.fromkeys(pair["fold"] for pair in pairs))
        pairs = [pair for pair in pairs
                 if pair["file1"] not in skipped and pair["file2"] not in skipped]
        pairs = select_folds(pairs, folds)
    scores = cosines(pairs, embedded.vectors)
    figures = {
        "runtime": pipeline.embedder.runtime,
        "model_hash": pipeline.model_hash,
        "pictures": len(embedded.vectors),
        "without_face": sorted(embedded.without_face),
        "with_several_faces": sorted(embedded.with_several),
        **measure(scores, pairs),
    }
    return figures, scores


def cosines(pairs: list[dict], vectors: dict):
    """Returns the cosine of each pair's embeddings, float64 `[n]`."""
    import numpy as np

    first = np.stack([vectors[pair["file1"]] for pair in pairs]).astype(np.float64)
    second = np.stack([vectors[pair["file2"]] for pair in pairs]).astype(np.float64)
    return np.sum(first * second, axis=1)


def measure(scores, pairs: list[dict]) -> dict:
    """Measures verification.

    Args:
        scores: float `[n]`, the higher the more alike.
        pairs: `[n]` as of `read_pairs`.

    Returns:
        Plain numbers by name; a rate that the pairs cannot tell is None.
    """
    from mlcvtf.metrics import verification

    same = [pair["same"] for pair in pairs]
    by_fold = verification.k_fold_accuracy(scores, same, [p["fold"] for p in pairs])
    impostors = len(same) - sum(same)
    rates = {
        f"{far:g}": verification.tar_at_far(scores, same, far)
        if verification.is_measurable(impostors, far) else None
        for far in FALSE_ACCEPT_RATES
    }
    return {
        "pairs_of_one_person": sum(same),
        "pairs_of_two": impostors,
        "folds": {fold: {"accuracy": accuracy, "threshold": threshold}
                  for fold, (accuracy, threshold) in by_fold.folds.items()},
        "accuracy": by_fold.mean,
        "standard_error": by_fold.standard_error,
        "true_accept_rate_at": rates,
        "equal_error_rate": verification.equal_error_rate(scores, same),
    }


def describe(figures: dict) -> list[str]:
    """Writes the figures as lines of text."""
    impostors = figures["pairs_of_two"]
    lines = [
        f"{figures['pairs_of_one_person']} pairs of one person and {impostors} of two "
        f"in {figures['pictures']} pictures, {figures['runtime']}",
        f"no face found in {len(figures['without_face'])} pictures (embedded whole), "
        f"several in {len(figures['with_several_faces'])} (the most central counts)",
    ]
    lines += [f"fold {fold}: accuracy {part['accuracy']:.4f} at cosine "
              f"{part['threshold']:.4f}" for fold, part in figures["folds"].items()]
    lines.append(f"accuracy {figures['accuracy']:.4f} +- "
                 f"{figures['standard_error']:.4f}")
    for far, rate in figures["true_accept_rate_at"].items():
        lines.append(f"TAR at FAR {float(far):.0e}: " + (
            f"{rate:.4f}" if rate is not None
            else f"not measured, {impostors} pairs of two people are too few"))
    lines.append(f"equal error rate {figures['equal_error_rate']:.4f}")
    return lines


def draw_curve(path: str, scores, same) -> None:
    """Draws true against false accepts, the latter on a logarithmic axis.

    Args:
        path: a file of one of `CURVE_FORMATS`.
        scores: float `[n]`.
        same: bool `[n]`.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from mlcvtf.metrics import verification

    curve = verification.roc(scores, same)
    impostors = len(same) - sum(same)
    least = 1 / impostors
    figure = Figure(figsize=(6, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.step(np.maximum(curve.far, least), curve.tar, where="post", linewidth=2)
    error = verification.equal_error_rate(scores, same)
    axes.plot(error, 1 - error, "o", color="tab:red",
              label=f"equal error rate {error:.3f}")
    few = verification.LEAST_FALSE_ACCEPTS
    axes.axvline(few / impostors, color="grey", linestyle=":",
                 label=f"{few} false accepts")
    axes.set(xscale="log", xlim=(least, 1), ylim=(0, 1.01), xlabel="false accept rate",
             ylabel="true accept rate",
             title=f"{sum(same)} pairs of one person, {impostors} of two")
    axes.grid(alpha=0.4, which="both", linewidth=0.5)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def _check_outputs():
    """Makes sure, before any work, that the outputs can be written."""
    from mlcvtf.video import sink
    from mlcvtf.video.paths import printable

    if FLAGS.json:
        sink.check_writable(FLAGS.json, "figures")
    if FLAGS.roc:
        if os.path.splitext(FLAGS.roc)[1].lower() not in CURVE_FORMATS:
            raise InputError(f"a curve is drawn in {', '.join(CURVE_FORMATS)}, "
                             f"received {printable(FLAGS.roc)}")
        sink.check_writable(FLAGS.roc, "a curve")


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
