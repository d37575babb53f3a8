"""Photometric and geometric augmentation of uint8 pictures on the host.

NumPy and OpenCV: deterministic for a given generator, the same on every backend.
"""

import cv2
import numpy as np

# Luminance and colour differences of RGB (NTSC, 1953).
YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def jitter_similarity(
    generator: np.random.Generator,
    centre,
    rotation: float,
    scale: float,
    shift: float,
) -> np.ndarray:
    """Draws a small rotation, scaling and shift about a point.

    Args:
        generator: source of randomness.
        centre: x, y of the fixed point in pixels.
        rotation: standard deviation in degrees.
        scale: standard deviation of the scale's natural logarithm.
        shift: standard deviation in pixels.

    Returns:
        float64 `[3, 3]` homogeneous matrix.
    """
    angle = np.deg2rad(generator.normal(0, rotation))
    factor = np.exp(generator.normal(0, scale))
    cosine, sine = factor * np.cos(angle), factor * np.sin(angle)
    x, y = centre
    dx, dy = generator.normal(0, shift, 2)
    return np.array(
        [
            [cosine, -sine, x - cosine * x + sine * y + dx],
            [sine, cosine, y - sine * x - cosine * y + dy],
            [0, 0, 1],
        ]
    )


def photometric(
    image: np.ndarray, generator: np.random.Generator, strength: float = 1.0
) -> np.ndarray:
    """Changes brightness, contrast, gamma, colour balance and saturation.

    Args:
        image: uint8 `[height, width, 3]`.
        generator: source of randomness.
        strength: 0 for none, 1 for the usual amount.

    Returns:
        uint8 of the same shape.
    """
    levels = np.arange(256, dtype=np.float32) / 255
    gamma = np.exp(generator.normal(0, 0.25 * strength))
    gain = np.exp(generator.normal(0, 0.15 * strength))
    bias = generator.normal(0, 0.06 * strength)
    balance = np.exp(generator.normal(0, 0.06 * strength, 3))
    curve = (levels**gamma - 0.5)[:, None] * gain * balance + 0.5 + bias
    table = np.clip(curve * 255, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, np.ascontiguousarray(table[None]))
    if generator.random() < 0.35 * strength:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        weight = 0.0 if generator.random() < 0.4 else generator.uniform(0.2, 0.9)
        image = cv2.addWeighted(
            image, weight, cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), 1 - weight, 0
        )
    return image


def distort(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Distorts brightness, contrast, saturation, hue and the order of channels.

    Liu et al., 2016, "SSD: Single Shot MultiBox Detector", arXiv:1512.02325, with the
    ranges of its code, each change at half of the pictures: brightness by up to 32
    levels, contrast and saturation by a factor of 0.5 to 1.5, hue by up to 18 degrees.
    The order of channels, which that code leaves alone by default, is drawn for a
    twentieth. Different: saturation and hue scale and turn the colour differences of
    YIQ instead of HSV's, so that all together is one linear map of RGB, many times
    faster, which keeps luminance.

    Args:
        image: uint8 `[height, width, 3]` RGB.
        generator: source of randomness.

    Returns:
        uint8 of the same shape.
    """
    chosen = generator.random(5) < (0.5, 0.5, 0.5, 0.5, 0.05)
    brightness = generator.uniform(-32, 32) * chosen[0]
    contrast, saturation = np.where(chosen[1:3], generator.uniform(0.5, 1.5, 2), 1)
    angle = np.deg2rad(generator.uniform(-18, 18)) * chosen[3]
    order = generator.permutation(3)
    colours = contrast * colour_matrix(saturation, angle)
    if chosen[4]:
        colours = colours[order]
    return cv2.transform(image, np.column_stack([colours, [brightness * contrast] * 3]))


def colour_matrix(saturation: float, angle: float) -> np.ndarray:
    """Makes the linear map of RGB that scales and turns colours.

    Args:
        saturation: factor of the colour differences; 0 gives grey.
        angle: by which hues turn, in radians.

    Returns:
        float64 `[3, 3]`, under which grey stays grey of the same level.

    >>> colour_matrix(0, 0).round(3).tolist()[0]
    [0.299, 0.587, 0.114]
    """
    cosine, sine = saturation * np.cos(angle), saturation * np.sin(angle)
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    return np.linalg.inv(YIQ) @ turn @ YIQ


def degrade(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Blurs, pixelates, adds noise or JPEG artefacts, each at times.

    Args:
        image: uint8 `[height, width, 3]`.
        generator: source of randomness.

    Returns:
        uint8 of the same shape.
    """
    height, width = image.shape[:2]
    kind = generator.random()
    if kind < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), generator.uniform(0.4, 1.8))
    elif kind < 0.35:
        factor = generator.uniform(0.3, 0.8)
        small = cv2.resize(
            image,
            (max(8, round(width * factor)), max(8, round(height * factor))),
            interpolation=cv2.INTER_AREA,
        )
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if generator.random() < 0.1:
        noise = generator.normal(0, generator.uniform(2, 10), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if generator.random() < 0.2:
        quality = int(generator.integers(30, 90))
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return image


def erase(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Covers a random rectangle with one colour (random erasing, Zhong et al. 2017)."""
    height, width = image.shape[:2]
    h = int(height * generator.uniform(0.1, 0.4))
    w = int(width * generator.uniform(0.1, 0.4))
    y, x = generator.integers(0, height - h + 1), generator.integers(0, width - w + 1)
    image = image.copy()
    image[y : y + h, x : x + w] = generator.integers(0, 256, 3)
    return image
