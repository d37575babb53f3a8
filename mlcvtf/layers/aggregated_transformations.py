"""ResNeXt's block in its three equivalent forms.

Xie, Girshick, Dollar, Tu, He, 2017, "Aggregated Residual Transformations for Deep
Neural Networks", arXiv:1611.05431, figure 3. Form c is what the networks use
(`BottleneckBlock`); forms a and b are here to show that they compute the same.
"""

import re

import keras
import numpy as np
from keras import ops

from mlcvtf.layers.residual import BottleneckBlock

FORMS = ("summed", "concatenated", "grouped")


@keras.saving.register_keras_serializable(package="mlcvtf")
class AggregatedTransformations(keras.layers.Layer):
    """Adds G branches of 1x1, 3x3 and 1x1 convolutions to the input.

    "summed" (figure 3a): each branch goes from the input to all output channels, and
    the branches' outputs are summed; batch normalisation comes after the sum, as the
    paper's section 5 says. "concatenated" (3b): the branches end after the 3x3
    convolution, and one 1x1 convolution reads them all. "grouped" (3c): one 1x1, one
    grouped 3x3 and one 1x1 convolution.

    Args:
        filters: output channels.
        width: channels d per branch.
        groups: number of branches G.
        form: one of `FORMS`.
        stride: of the 3x3 convolutions, 1 or more.
        epsilon: of batch normalisation.
        momentum: of the moving statistics of batch normalisation.
        **kwargs: of `keras.layers.Layer`.

    Input: float `[batch, height, width, c]`.
    Output: float `[batch, ceil(height / stride), ceil(width / stride), filters]`.

    Raises:
        ValueError: unknown form, or a number is not positive.
    """

    def __init__(
        self,
        filters: int,
        width: int,
        groups: int,
        form: str = "grouped",
        stride: int = 1,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if form not in FORMS:
            raise ValueError(f"form is one of {', '.join(FORMS)}, received {form!r}")
        if min(filters, width, groups, stride) < 1:
            raise ValueError(
                "filters, width, groups and stride are at least 1, received "
                f"{filters}, {width}, {groups} and {stride}"
            )
        self.filters, self.width, self.groups = filters, width, groups
        self.form, self.stride = form, stride
        self.epsilon, self.momentum = epsilon, momentum

    def build(self, input_shape):
        self.branches, self.closing = [], {}
        if self.form == "grouped":
            self._build_grouped(input_shape)
        else:
            self._build_branches(input_shape)
        # Keras freezes only the layers that are there when a block is frozen.
        for parts in (*self.branches, self.closing):
            for part in parts.values():
                part.trainable = self.trainable

    def _build_grouped(self, input_shape):
        self.closing["block"] = BottleneckBlock(
            self.filters,
            self.groups * self.width,
            self.stride,
            groups=self.groups,
            epsilon=self.epsilon,
            momentum=self.momentum,
            dtype=self.dtype_policy,
            name="block",
        )
        self.closing["block"].build(input_shape)

    def _build_branches(self, input_shape):
        inner, outside = [(*input_shape[:3], c) for c in (self.width, self.filters)]
        for index in range(self.groups):
            parts = {
                "conv1": self._convolution(index, "conv1", 1),
                "conv1_normalisation": self._normalisation(f"branch{index}_conv1"),
                "conv2": self._convolution(index, "conv2", 3),
                "conv2_normalisation": self._normalisation(f"branch{index}_conv2"),
            }
            if self.form == "summed":
                parts["conv3"] = self._convolution(index, "conv3", 1)
            for name, part in parts.items():
                part.build(input_shape if name == "conv1" else inner)
            self.branches.append(parts)
        if self.form == "concatenated":
            self.closing["conv3"] = self._convolution(None, "conv3", 1)
            self.closing["conv3"].build((*inner[:3], self.groups * self.width))
        self.closing["conv3_normalisation"] = self._normalisation("conv3")
        self.closing["conv3_normalisation"].build(outside)
        self.projects = self.stride > 1 or input_shape[-1] != self.filters
        if self.projects:
            self.closing["shortcut"] = self._convolution(None, "shortcut", 1)
            self.closing["shortcut"].build(input_shape)
            self.closing["shortcut_normalisation"] = self._normalisation("shortcut")
            self.closing["shortcut_normalisation"].build(outside)

    def _convolution(self, index, name, size):
        strided = name in ("conv2", "shortcut")
        return keras.layers.Conv2D(
            self.width if name in ("conv1", "conv2") else self.filters,
            size,
            strides=self.stride if strided else 1,
            # The 3x3 ones are padded by hand, symmetrically.
            padding="valid",
            use_bias=False,
            kernel_initializer="he_normal",
            dtype=self.dtype_policy,
            name=name if index is None else f"branch{index}_{name}",
        )

    def _normalisation(self, name):
        return keras.layers.BatchNormalization(
            epsilon=self.epsilon,
            momentum=self.momentum,
            dtype=self.dtype_policy,
            name=f"{name}_normalisation",
        )

    def call(self, inputs, training=None):
        if self.form == "grouped":
            return self.closing["block"](inputs, training=training)
        results = []
        for parts in self.branches:
            x = parts["conv1"](inputs)
            x = ops.relu(parts["conv1_normalisation"](x, training=training))
            x = parts["conv2"](ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]))
            x = ops.relu(parts["conv2_normalisation"](x, training=training))
            results.append(parts["conv3"](x) if self.form == "summed" else x)
        if self.form == "summed":
            x = sum(results[1:], results[0])
        else:
            x = self.closing["conv3"](ops.concatenate(results, axis=-1))
        x = self.closing["conv3_normalisation"](x, training=training)
        shortcut = inputs
        if self.projects:
            shortcut = self.closing["shortcut_normalisation"](
                self.closing["shortcut"](inputs), training=training
            )
        return ops.relu(x + shortcut)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        sides = [None if s is None else -(-s // self.stride) for s in (height, width)]
        return (batch, *sides, self.filters)

    def in_form(self, form: str) -> "AggregatedTransformations":
        """Builds the block in another form with the same weights.

        Args:
            form: one of `FORMS`.

        Returns:
            A block that computes the same, in training too.

        Raises:
            ValueError: unknown form, or this block is not built.
        """
        if not self.built:
            raise ValueError("a block is built before its weights are carried")
        block = type(self).from_config(self.get_config() | {"form": form})
        arrays = _gathered(self)
        block.build((None, None, None, arrays["conv1/kernel"].shape[2]))
        for variable in block.variables:
            name, branch = _name(variable)
            value = arrays[name]
            if branch is not None:
                # Branches read and write a slice of the channels.
                axis = 2 if name == "conv3/kernel" else -1
                value = np.split(value, self.groups, axis)[branch]
            variable.assign(value)
        return block

    def get_config(self):
        names = ("filters", "width", "groups", "form", "stride", "epsilon", "momentum")
        return super().get_config() | {name: getattr(self, name) for name in names}


def _gathered(block):
    """Returns a block's weights in the grouped form, by name."""
    parts = {}
    for variable in block.variables:
        name, _ = _name(variable)
        parts.setdefault(name, []).append(ops.convert_to_numpy(variable))
    return {
        name: np.concatenate(values, axis=2 if name == "conv3/kernel" else -1)
        for name, values in parts.items()
    }


def _name(variable):
    """Returns a variable's name in the grouped form, and the branch it is of."""
    layer, name = variable.path.split("/")[-2:]
    match = re.fullmatch(r"branch(\d+)_(\w+)", layer)
    if match:
        return f"{match[2]}/{name}", int(match[1])
    return f"{layer}/{name}", None
