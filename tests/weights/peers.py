"""What parity tests share: smooth pictures, statistics of a training pass, measures."""

import zlib

import numpy as np


def smooth_pictures(number, height, width, seed=0):
    """Draws sums of slow waves, float32 `[number, height, width, 3]` in 0..255.

    Unlike white noise they pass through a network's averages, so that an error of
    padding or normalisation is seen at its end.
    """
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = np.zeros((number, height, width, 3))
    for _ in range(6):
        a, b, phase = generator.uniform(-6, 6, (3, number, 1, 1, 3))
        turns = a * x[None, ..., None] + b * y[None, ..., None]
        waves += np.sin(2 * np.pi * turns + phase)
    waves -= waves.min()
    return (255 * waves / waves.max()).astype("float32")


def difference(found, expected):
    """Returns the largest difference over the largest expected value."""
    expected = np.asarray(expected)
    return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


def settle(network, inputs):
    """Gives a torch network random scales, and statistics by a training pass."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
            # The statistics of this pass alone.
            module.momentum = None
            module.reset_running_stats()
    network.train()
    with torch.no_grad():
        network(inputs)
    network.eval()


def to_torch(images):
    """Converts channels-last pictures to a channels-first torch tensor."""
    import torch

    return torch.tensor(np.asarray(images)).permute(0, 3, 1, 2).contiguous()


def maps(network, inputs, names):
    """Runs a torch network; returns its output and what named parts of it gave."""
    import torch

    kept = {}

    def keep(name):
        def hook(module, arguments, output):
            kept[name] = output.numpy().transpose(0, 2, 3, 1)
        return hook

    parts = dict(network.named_modules())
    handles = [parts[name].register_forward_hook(keep(name)) for name in names]
    with torch.no_grad():
        output = network(inputs).numpy()
    for handle in handles:
        handle.remove()
    return output, kept


def arrays(network):
    """Returns the state dict of a torch network as arrays."""
    return {name: value.numpy() for name, value in network.state_dict().items()}


def seeded(path, shape):
    """Makes values of a variable from its path alone: random statistics, He kernels."""
    generator = np.random.default_rng(zlib.crc32(path.encode()))
    if path.endswith(("gamma", "variance")):
        return generator.uniform(0.5, 1.5, shape).astype("float32")
    if len(shape) == 1:
        return generator.normal(0, 0.2, shape).astype("float32")
    deviation = (2 / np.prod(shape[:-1])) ** 0.5
    return generator.normal(0, deviation, shape).astype("float32")


def fill(model):
    """Fills a model with `seeded` values."""
    for variable in model.weights:
        variable.assign(seeded(variable.path, variable.shape))


def fill_peer(network, loaded):
    """Fills a torch network with the values that `fill` gives our model.

    Args:
        network: the peer.
        loaded: pairs of its names and our paths, from `name_map.Report`.
    """
    import torch

    state = network.state_dict()
    for name, path in loaded:
        shape = tuple(state[name].shape)
        # Convolutions are [out, in, height, width] there, dense layers [out, in].
        order = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(shape), (0,))
        values = seeded(path, tuple(shape[axis] for axis in order))
        state[name] = torch.tensor(np.transpose(values, np.argsort(order)).copy())
    network.load_state_dict(state)
    network.eval()
