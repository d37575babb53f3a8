"""The space of cells of an architecture search, and the network that a cell makes.

Zoph, Vasudevan, Shlens, Le, 2018, "Learning Transferable Architectures for Scalable
Image Recognition", arXiv:1707.07012, section 3: a cell is made of blocks; each picks
two earlier outputs and an operation for each of them, and adds the results. The blocks
that no other block uses are concatenated.

What differs, since a hundred small trainings have to do: only the cell that keeps the
size is searched, sizes are halved by pooling; there are six operations, and every block
adds.
"""

from collections.abc import Sequence

import keras

OPERATIONS = (
    "identity",
    "convolution 1x1",
    "convolution 3x3",
    "separable 3x3",
    "average pooling 3x3",
    "max pooling 3x3",
)
BLOCKS = 4
# Decisions per block: two inputs, then an operation for each.
DECISIONS = 4
# Of the moving statistics: a child is trained for a hundred steps or two.
MOVING = 0.9


def options(blocks: int = BLOCKS) -> tuple[int, ...]:
    """Counts the options of each decision of a cell, in the controller's order.

    Block b, from 0, takes its inputs from the two cells before and the b blocks.

    Args:
        blocks: of the cell, at least 1.

    >>> options(2)
    (2, 2, 6, 6, 3, 3, 6, 6)
    """
    return tuple(
        count
        for block in range(blocks)
        for count in (block + 2, block + 2, len(OPERATIONS), len(OPERATIONS))
    )


def check(cell: Sequence[int]) -> tuple[int, ...]:
    """Returns a cell as a tuple.

    Args:
        cell: the number of the chosen option per decision.

    Raises:
        ValueError: it is none of the space.
    """
    counts = options(len(cell) // DECISIONS)
    inside = all(0 <= c < n for c, n in zip(cell, counts, strict=False))
    if not cell or len(cell) != len(counts) or not inside:
        raise ValueError(
            f"a cell of b blocks is {DECISIONS} b decisions below options(b), received "
            f"{tuple(cell)}"
        )
    return tuple(int(choice) for choice in cell)


def canonical(cell: Sequence[int]) -> tuple[int, ...]:
    """Returns the one way of writing a cell: a block's two sides may be exchanged.

    >>> canonical((1, 0, 2, 3)) == canonical((0, 1, 3, 2)) == (0, 1, 3, 2)
    True
    """
    written = []
    for first, second, one, other in _blocks(check(cell)):
        sides = sorted([(first, one), (second, other)])
        written += [sides[0][0], sides[1][0], sides[0][1], sides[1][1]]
    return tuple(written)


def describe(cell: Sequence[int]) -> list[str]:
    """Writes a cell in words, a line per block."""
    lines = []
    for number, (first, second, one, other) in enumerate(_blocks(check(cell))):
        sides = [
            f"{OPERATIONS[operation]} of {_source(source)}"
            for source, operation in ((first, one), (second, other))
        ]
        lines.append(f"block {number} = {sides[0]} + {sides[1]}")
    return lines


def _source(number):
    names = ("the cell before the last", "the last cell")
    return names[number] if number < 2 else f"block {number - 2}"


def _blocks(cell):
    return [cell[i : i + DECISIONS] for i in range(0, len(cell), DECISIONS)]


def cell_network(
    cell: Sequence[int],
    channels: int = 16,
    stages: int = 2,
    cells: int = 1,
    input_shape: tuple = (None, None, 3),
) -> keras.Model:
    """Builds a small network of one searched cell, repeated.

    Args:
        cell: decisions, as of `check`.
        channels: of the first stage; every stage has twice as many as the one before.
        stages: that halve the size, the first by the stem of stride 2.
        cells: per stage.
        input_shape: height, width and 3 channels; height and width may be None.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255.
        Output: dict with "P1" to "P{stages}", where Pn is `[batch, height / 2^n,
        width / 2^n, channels of that stage's unused blocks]`, rounded up.

    Raises:
        ValueError: the cell is none of the space, or a number is not positive.
    """
    cell = check(cell)
    if min(channels, stages, cells) < 1:
        raise ValueError(
            "channels, stages and cells are at least 1, received "
            f"{channels}, {stages} and {cells}"
        )
    images = keras.Input(input_shape, name="images")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="normalisation")(images)
    x = keras.layers.Conv2D(channels, 3, 2, padding="same", use_bias=False)(x)
    previous = current = keras.layers.BatchNormalization(momentum=MOVING)(x)
    outputs = {}
    for stage in range(stages):
        if stage:
            previous, current = (
                keras.layers.MaxPooling2D(2, padding="same")(x)
                for x in (previous, current)
            )
        for _ in range(cells):
            made = _apply(cell, previous, current, channels * 2**stage)
            previous, current = current, made
        outputs[f"P{stage + 1}"] = current
    return keras.Model(images, outputs, name="cell_network")


def _apply(cell, previous, current, channels):
    """Adds one cell; its output is every block that no other block uses."""
    states = [_convolve(previous, channels, 1), _convolve(current, channels, 1)]
    used = set()
    for first, second, one, other in _blocks(cell):
        sides = [
            _operate(OPERATIONS[operation], states[source], channels)
            for source, operation in ((first, one), (second, other))
        ]
        states.append(keras.layers.Add()(sides))
        used |= {first, second}
    loose = [states[i] for i in range(2, len(states)) if i not in used]
    return loose[0] if len(loose) == 1 else keras.layers.Concatenate()(loose)


def _operate(operation, x, channels):
    if operation == "identity":
        return x
    if operation == "average pooling 3x3":
        return keras.layers.AveragePooling2D(3, 1, padding="same")(x)
    if operation == "max pooling 3x3":
        return keras.layers.MaxPooling2D(3, 1, padding="same")(x)
    side = 1 if operation.endswith("1x1") else 3
    return _convolve(x, channels, side, operation.startswith("separable"))


def _convolve(x, channels, side, separable=False):
    """Adds ReLU, convolution and batch normalisation, in NASNet's order."""
    kind = keras.layers.SeparableConv2D if separable else keras.layers.Conv2D
    x = keras.layers.ReLU()(x)
    x = kind(channels, side, padding="same", use_bias=False)(x)
    return keras.layers.BatchNormalization(momentum=MOVING)(x)
