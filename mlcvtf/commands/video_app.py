"""The flags of every app that reads frames, and the way from them to the loop.

Standard library and `absl.flags` alone at module level, for a quick `--help`.
"""

import math
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

if TYPE_CHECKING:
    from mlcvtf.video import loop

RUNTIMES = ("auto", "litert", "litert_float16", "litert_int8", "saved_model")
# What finds faces: the network `face_detector`, or the cascade `face_cascade`, which
# gives no landmarks of its own.
DETECTORS = ("centernet", "cascade")
DETECTOR_HELP = (
    "What finds faces: the network face_detector, or the cascade of Haar features "
    "face_cascade, which knows no landmarks and sees no turned faces."
)
MODELS = (
    "Folder with the models face_detector (or face_cascade) and face_embedder; the "
    "shipped ones by default."
)
RUNTIME = "What runs the models; auto takes LiteRT where the model has a .tflite file."
SOURCE = (
    "Webcam index, video, picture, folder of pictures (by name, each counts as a "
    "second), or URL (MJPEG over HTTP, RTSP)."
)


def define_flags(
    flag_values: flags.FlagValues,
    models: str = MODELS,
    runtime: str = RUNTIME,
    runtimes: tuple[str, ...] = RUNTIMES,
    source: str = SOURCE,
    first_source: str | None = "0",
    live: bool = True,
    detectors: tuple[str, ...] = DETECTORS,
) -> None:
    """Adds the flags of a video app to a command's flags.

    Args:
        flag_values: of the command.
        models: help of --models.
        runtime: help of --runtime.
        runtimes: what it may be.
        source: help of --source.
        first_source: its default.
        live: whether the source may be a camera or a stream.
        detectors: what --detector may be; without any there is no such flag.
    """
    flags.DEFINE_string("models", None, models, flag_values=flag_values)
    flags.DEFINE_enum("runtime", "auto", runtimes, runtime, flag_values=flag_values)
    if detectors:
        flags.DEFINE_enum(
            "detector", detectors[0], detectors, DETECTOR_HELP, flag_values=flag_values
        )
    flags.DEFINE_string("source", first_source, source, flag_values=flag_values)
    flags.DEFINE_string(
        "output",
        None,
        "Video to write, with what was found drawn in: .mp4, .avi or .mkv (which "
        "plays even after the app was killed).",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "json",
        None,
        "File for one JSON line per frame, or - for standard output.",
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "display",
        "auto",
        ["auto", "on", "off"],
        "Shows the frames in a window (q quits): auto where there is a display, on "
        "refuses to run without one.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "every",
        1,
        "Processes one frame of so many.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "max-frames",
        None,
        "Stops after so many processed frames.",
        lower_bound=1,
        flag_values=flag_values,
    )
    if not live:
        return
    flags.DEFINE_float(
        "reconnect",
        10.0,
        "Seconds without a frame after which a live source is given up.",
        lower_bound=0.0,
        flag_values=flag_values,
    )


def refuse_arguments(argv: list[str]) -> None:
    """Raises a flag error if there is an argument that is no flag."""
    if argv:
        raise flags.Error(f"arguments are flags (--name=value), received {argv[0]}")


def prepare_process() -> None:
    """Sets up the process of an app; call it before numpy and cv2 are imported.

    OpenCV and FFmpeg are silenced, since what they find wrong is told in our words,
    and a polite kill ends the app as Ctrl-C does, with every file closed. The models
    have the threads: the pools of OpenCV and of NumPy's OpenBLAS, whose threads spin
    while they wait, would only get in their way.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    import cv2

    cv2.setNumThreads(1)


def notify(line: str) -> None:
    """Prints a line that is no result to standard error."""
    print(line, file=sys.stderr, flush=True)


def progress(unit: str) -> Callable[[int, int], None] | None:
    """Returns a callback that shows (done, total) as a bar, None off a terminal."""
    if not sys.stderr.isatty():
        return None
    import tqdm

    bar = tqdm.tqdm(unit=unit, leave=False)

    def show(done, total):
        bar.total = total
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show


def check_paths(flag_values: flags.FlagValues) -> None:
    """Makes sure, before any work, that source and outputs can be opened.

    Raises:
        InputError: they cannot, or an output would overwrite the source.
    """
    from mlcvtf.video.source import check_source

    check_source(flag_values.source)
    check_outputs(flag_values)


def check_outputs(flag_values: flags.FlagValues) -> None:
    """Makes sure, before any work, that the outputs can be written.

    Raises:
        InputError: they cannot, or an output would overwrite the source.
    """
    from mlcvtf.errors import InputError
    from mlcvtf.video import sink
    from mlcvtf.video.paths import printable

    source = flag_values.source
    paths = [flag_values[name].value for name in ("output", "json")]
    if all(paths) and os.path.realpath(paths[0]) == os.path.realpath(paths[1]):
        raise InputError(
            f"--output and --json must be two files, received {printable(paths[0])}"
        )
    for name, path in zip(("output", "json"), paths, strict=True):
        if path is None:
            continue
        if os.path.exists(path) and os.path.exists(source):
            if os.path.samefile(path, source):
                raise InputError(
                    f"--{name} must not be the source, received {printable(path)}"
                )
        if name == "output":
            sink.check_video_path(path)
        else:
            sink.check_writable(path, "JSON lines")


def run(
    flag_values: flags.FlagValues, title: str, app: "loop.App", source=None
) -> int:
    """Opens the source and the outputs, runs the loop and prints the summary.

    Args:
        flag_values: as of `define_flags`.
        title: of the window.
        app: what happens to a frame; its `describe()` ends the summary.
        source: an open one; that of --source by default.

    Returns:
        0.

    Raises:
        InputError: as of the source, the app and the outputs.
        KeyboardInterrupt: Ctrl-C, after everything was closed.
    """
    from mlcvtf.video import loop, sink
    from mlcvtf.video.source import open_source

    problem = None
    if flag_values.display != "off":
        problem = _display_problem(flag_values.display)
    if source is None:
        source = open_source(flag_values.source, flag_values.reconnect, notify)
    json = sink.JsonLines(flag_values.json) if flag_values.json else None
    pictures = []
    if flag_values.output:
        rate = source.rate / flag_values.every
        pictures.append(sink.VideoFile(flag_values.output, rate, source.live))
    if flag_values.display != "off" and problem is None:
        # One picture stays until a key is pressed, those of a folder for a second.
        stay = (math.inf if source.length == 1 else 1.0) if source.still else 0.0
        pictures.append(sink.Window(title, stay))
    summary = loop.run(
        source,
        app,
        loop.Outputs(json, tuple(pictures)),
        flag_values.every,
        flag_values["max-frames"].value,
    )
    # Standard output belongs to the JSON lines where they are asked for there.
    place = sys.stderr if flag_values.json == "-" else sys.stdout
    print(f"{summary}; {app.describe()}", file=place, flush=True)
    if summary.problem is not None:
        raise summary.problem
    return 0


def _display_problem(wanted):
    """Says why there is no window; refuses to go on where one is demanded."""
    from mlcvtf.errors import InputError
    from mlcvtf.video import sink

    problem = sink.display_problem()
    if problem is not None and wanted == "on":
        raise InputError(f"--display=on needs a display, {problem}")
    if problem is not None:
        notify(f"no window: {problem}")
    return problem
