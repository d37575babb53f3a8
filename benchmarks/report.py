"""What every benchmark prints: its table, and where and how it was measured."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
DATA = CHECKOUT.parent / "shared" / "data"
# Instructions that int8 and bfloat16 networks gain from.
NOTED = ("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile",
         "neon", "asimd")


class Report:
    """Collects the lines of a benchmark, prints them and stores them where asked.

    Args:
        name: of the benchmark, as of its program.
        packages: distributions whose versions matter.
    """

    def __init__(self, name: str, packages=()):
        self._path = CHECKOUT / "docs" / "benchmarks" / f"{name}.md"
        self._packages = packages
        self._lines = []
        self.add(f"# {name}", "")

    def add(self, *lines: str) -> None:
        """Adds lines of Markdown and prints them."""
        for line in lines:
            self._lines.append(line)
            print(line, flush=True)

    def table(self, header, rows) -> None:
        """Adds a table.

        Args:
            header: names of the columns.
            rows: a sequence of cells per row, text or numbers (written with 3 digits).
        """
        cells = [[f"{c:.3f}" if isinstance(c, float) else str(c) for c in row]
                 for row in (header, *rows)]
        widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
        for number, row in enumerate(cells):
            padded = [c.ljust(w) for c, w in zip(row, widths, strict=True)]
            self.add(f"| {' | '.join(padded)} |")
            if number == 0:
                self.add(f"|{'|'.join('-' * (w + 2) for w in widths)}|")
        self.add("")

    def finish(self, write: bool) -> None:
        """Adds command, date, machine and versions; stores the report if asked."""
        versions = [f"Python {platform.python_version()}"]
        versions += [f"{package} {version}" for package in self._packages
                     if (version := _version(package))]
        program = pathlib.Path(sys.argv[0]).resolve().relative_to(CHECKOUT)
        command = shlex.join([str(program), *sys.argv[1:]])
        self.add(f"- command: `{command}`",
                 f"- date: {datetime.date.today().isoformat()}",
                 f"- machine: {processor()}",
                 f"- versions: {', '.join(versions)}")
        if write:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text("\n".join(self._lines) + "\n", encoding="utf-8")


def processor() -> str:
    """Describes the processor: its name, cores, and the flags of `NOTED` it has."""
    name, flags = platform.processor() or platform.machine(), ""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags = value
    present = [flag for flag in NOTED if flag in flags.split()]
    return f"{name}, {os.cpu_count()} cores, {' '.join(present)}"


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
