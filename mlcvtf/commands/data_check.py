"""data_check DIR [--sheet FILE.png] [--json FILE] [flags]

Looks for what is wrong with a data set before a model learns from it: counts per class,
unreadable pictures, boxes without area or out of their picture, masks of another size,
duplicates. The form of the folder is recognised: COCO JSON, VOC XML, YOLO text, images
with masks, a CSV table of classes, or a folder per class.

Exit code 0: no problem; 1: problems, each on its line. Pictures without a box and
pictures that look nearly alike are noted and are no problem.
"""

import sys

from absl import flags

from mlcvtf.commands import command
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_enum(
    "format", "auto", ("auto", "coco", "voc", "yolo", "masks", "table", "classes"),
    "Form of the data set; auto recognises it.", flag_values=FLAGS)
flags.DEFINE_string(
    "sheet", None, "PNG for a contact sheet: pictures from all over the set with boxes "
    "and classes drawn.", flag_values=FLAGS)
flags.DEFINE_string(
    "json", None, "File for all findings, or - for standard output instead of the "
    "text.", flag_values=FLAGS)
flags.DEFINE_integer(
    "most", 10, "Lines that are printed of each kind of finding; the JSON has all.",
    lower_bound=0, flag_values=FLAGS)

# Mask values that are printed; instance masks have hundreds.
MOST_VALUES = 40


def main(argv: list[str]) -> int:
    """Runs the command."""
    if len(argv) != 1:
        raise flags.Error("one argument is needed, the data set's folder, received "
                          f"{len(argv)}")
    _check_outputs()

    import functools
    import json

    import tqdm

    from mlcvtf.data import formats
    from mlcvtf.data.check import check

    form = formats.recognise(argv[0]) if FLAGS.format == "auto" else FLAGS.format
    parts = formats.read_folder(argv[0], form)
    # disable=None: shown on a terminal only.
    progress = functools.partial(tqdm.tqdm, unit="picture", leave=False, disable=None)
    findings = check(parts, progress)
    if FLAGS.sheet:
        from mlcvtf.commands import contact_sheet

        contact_sheet.write_png(
            FLAGS.sheet, contact_sheet.contact_sheet(contact_sheet.choose(parts)))
    content = {"folder": argv[0], "format": form, **findings._asdict()}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if FLAGS.json == "-":
        sys.stdout.write(text)
    else:
        if FLAGS.json:
            with open(FLAGS.json, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
        print("\n".join(describe(form, findings, FLAGS.most)))
    return 1 if any(findings.problems.values()) else 0


def describe(form: str, findings, most: int) -> list[str]:
    """Writes findings as lines of text.

    Args:
        form: of the data set.
        findings: from `mlcvtf.data.check.check`.
        most: lines of each kind.
    """
    from mlcvtf.data.check import NOTES, PROBLEMS

    lines = [f"format {form}"]
    for name, figures in findings.parts.items():
        lines += describe_part(name, figures)
    for kinds, found, mark in ((NOTES, findings.notes, "note: "),
                               (PROBLEMS, findings.problems, "")):
        for kind, meaning in kinds.items():
            if not found[kind]:
                continue
            lines.append(f"{mark}{meaning}: {len(found[kind])}")
            lines += [f"  {line}" for line in found[kind][:most]]
            if len(found[kind]) > most:
                lines.append(f"  and {len(found[kind]) - most} more")
    problems = sum(map(len, findings.problems.values()))
    lines.append(f"{problems} problem{'' if problems == 1 else 's'}" if problems
                 else "no problems")
    return lines


def describe_part(name: str, figures: dict) -> list[str]:
    """Writes the figures of a part as lines of text."""
    counts = [f"{figures['pictures']} pictures"]
    if "boxes" in figures:
        counts.append(f"{figures['boxes']} boxes (at most {figures['most_boxes']} in a "
                      f"picture, {figures['crowd']} crowd, {figures['difficult']} "
                      "difficult)")
        counts.append(f"{figures['empty_pictures']} pictures without a box")
    lines = [f"{name}: {', '.join(counts)}"]
    for key in ("width", "height", "box_width", "box_height"):
        if key in figures:
            least, middle, largest = figures[key]
            lines.append(f"  {key.replace('_', ' ')} {least:g} to {largest:g}, median "
                         f"{middle:g}")
    if "classes" in figures:
        absent = [name for name, count in figures["classes"].items() if not count]
        there = [f"{name} {count}" for name, count in
                 sorted(figures["classes"].items(), key=lambda item: -item[1]) if count]
        lines.append(f"  {len(there)} classes: {', '.join(there)}")
        if absent:
            lines.append(f"  never: {', '.join(absent)}")
    if "mask_values" in figures:
        values = [f"{value} {100 * share:.1f} %" for value, share in
                  list(figures["mask_values"].items())[:MOST_VALUES]]
        more = len(figures["mask_values"]) - len(values)
        lines.append(f"  mask values: {', '.join(values)}"
                     + (f" and {more} more" if more else ""))
    return lines


def _check_outputs():
    """Makes sure, before any work, that the outputs can be written."""
    if not (FLAGS.sheet or FLAGS.json):
        return
    from mlcvtf.video import sink
    from mlcvtf.video.paths import printable

    if FLAGS.json:
        sink.check_writable(FLAGS.json, "findings")
    if FLAGS.sheet:
        if not FLAGS.sheet.lower().endswith(".png"):
            raise InputError("a contact sheet ends in .png, received "
                             f"{printable(FLAGS.sheet)}")
        sink.check_writable(FLAGS.sheet, "a contact sheet")


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
