"""Several devices of one machine on the JAX backend, by `keras.distribution`.

    mlcvtf.training.jax_devices.create("mirrored")
    model = ...
    model.compile(...)
    model.fit(...)

The weights are on every device, each computes its part of a batch, and JAX sees the
whole batch as one array: losses, moments of BatchNormalization and random numbers are
those of one device, without any cure.

Keras 3.15 takes the layout of an epoch's first batch for all of them, so that a smaller
last one fails. The one private part of Keras that is replaced here, for the versions in
`VERSIONS`, asks for the layout of each batch.
"""

import functools
import os

import keras

from mlcvtf.errors import InputError

NAMES = ("auto", "one_device", "mirrored", "multi_worker")
VERSIONS = ("3.15",)


class AnyBatchDataParallel(keras.distribution.DataParallel):
    """Data parallelism for batches that the devices may not divide.

    Such a batch is computed whole on every device: nothing is left out or padded, and
    its step is that of one device, in the time of one device.
    """

    def get_data_layout(self, data_shape):
        """Gives a batch's layout: shared by its first axis, or whole on all devices."""
        devices = self.device_mesh.devices.size
        if len(data_shape) and data_shape[0] % devices == 0:
            return super().get_data_layout(data_shape)
        return keras.distribution.TensorLayout(
            [None] * len(data_shape), self.device_mesh
        )


def create(name: str = "auto") -> AnyBatchDataParallel | None:
    """Sets the distribution of this process; models are built after it.

    Args:
        name: `one_device`; `mirrored` for all devices of this machine (GPUs or TPUs,
            or its CPUs where it has none); `auto`: mirrored with two GPUs or TPUs or
            more, else one_device.

    Returns:
        The distribution, which stays in force until
        `keras.distribution.set_distribution(None)` or `keras.utils.clear_session()`;
        None for one device.

    Raises:
        InputError: an unknown name, several machines, or a version of Keras that is
            not supported.
    """
    if name not in NAMES:
        raise InputError(f"a strategy is one of {', '.join(NAMES)}; received {name}")
    if name == "multi_worker" or (name == "auto" and os.environ.get("TF_CONFIG")):
        raise InputError(
            "several machines train on the TensorFlow backend; received multi_worker "
            "(--strategy or TF_CONFIG) with the backend jax"
        )
    devices = keras.distribution.list_devices()
    processors = all(device.startswith("cpu") for device in devices)
    alone = name == "one_device" or (name == "auto" and processors)
    if alone or len(devices) == 1:
        keras.distribution.set_distribution(None)
        return None
    _install()
    distribution = AnyBatchDataParallel(devices=devices)
    keras.distribution.set_distribution(distribution)
    return distribution


def _install():
    """Has Keras ask for the layout of each batch."""
    version = ".".join(keras.__version__.split(".")[:2])
    if version not in VERSIONS:
        raise InputError(
            f"several devices are tried with Keras {', '.join(VERSIONS)}; "
            f"received Keras {keras.__version__}"
        )
    from keras.src.backend.jax import trainer

    def distributed(iterator, distribution):
        del distribution  # `_distribute_data` takes that of the process.
        for batch in iterator.data_adapter.get_jax_iterator():
            yield trainer._distribute_data(batch)

    original = trainer.JAXEpochIterator._get_distributed_iterator
    trainer.JAXEpochIterator._get_distributed_iterator = functools.wraps(original)(
        distributed
    )
