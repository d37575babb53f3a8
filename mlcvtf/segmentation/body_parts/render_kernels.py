"""Compiled loops of the synthetic data; imported by the functions that run them."""

import math

import numba
import numpy as np


@numba.njit(cache=True)
def furthest_neighbours(joints, near):
    """Chooses poses, each the furthest from those before, until all are near one.

    Gonzalez, 1985, "Clustering to minimize the maximum intercluster distance", is the
    greedy rule; see `mlcvtf.segmentation.body_parts.poses.spread_poses`.

    Args:
        joints: float32 `[n, joints, 3]` metres.
        near: float32 metres.

    Returns:
        int64 `[kept]`.
    """
    count = len(joints)
    # Squared distance to the nearest pose that was kept.
    least = np.full(count, np.float32(np.inf))
    kept = np.empty(count, np.int64)
    number = 0
    latest = 0
    while number < count:
        kept[number] = latest
        number += 1
        centre = joints[latest]
        furthest = np.float32(-1)
        following = 0
        for i in range(count):
            bound = least[i]
            if bound > 0:
                largest = np.float32(0)
                for j in range(joints.shape[1]):
                    x = joints[i, j, 0] - centre[j, 0]
                    y = joints[i, j, 1] - centre[j, 1]
                    z = joints[i, j, 2] - centre[j, 2]
                    largest = max(largest, x * x + y * y + z * z)
                    if largest >= bound:
                        break
                bound = min(bound, largest)
                least[i] = bound
            if bound > furthest:
                furthest = bound
                following = i
        if furthest < near * near:
            break
        latest = following
    return kept[:number]


@numba.njit(cache=True, error_model="numpy")
def _sphere(ox, oy, oz, dx, dy, dz, radius):
    """Returns where a ray enters a sphere around 0, or infinity."""
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - radius * radius
    inside = b * b - a * c
    if inside < 0:
        return math.inf
    return (-b - math.sqrt(inside)) / a


@numba.njit(cache=True, error_model="numpy")
def _cone(ox, oy, oz, dx, dy, dz, first, height, slope):
    """Returns where a ray enters the cone that touches both ends' spheres.

    The spheres have radius `first` at 0 and a smaller or larger one at `height` on the
    z axis; `slope` is the difference of radii by the height, the sine of the cone's
    angle. The cone is where rho c + z s = first, between the two circles of contact.
    """
    cosine2 = 1 - slope * slope
    a = (dx * dx + dy * dy) * cosine2 - slope * slope * dz * dz
    rest = first - slope * oz
    b = (ox * dx + oy * dy) * cosine2 + slope * dz * rest
    c = (ox * ox + oy * oy) * cosine2 - rest * rest
    inside = b * b - a * c
    if inside < 0 or a == 0:
        return math.inf
    root = math.sqrt(inside)
    cosine = math.sqrt(cosine2)
    best = math.inf
    for sign in (-1, 1):
        t = (-b + sign * root) / a
        x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
        along = z * cosine - math.sqrt(x * x + y * y) * slope
        if 0 <= along <= height * cosine and first - slope * z >= 0 and t < best:
            best = t
    return best


@numba.njit(cache=True, error_model="numpy")
def cast(solids, surfaces, boxes, focal, centre, depth, labels):
    """Casts a ray through every pixel of each solid's box; the nearest hit stays.

    Args:
        solids: float64 `[n, 15]`: the 3x3 map from the camera's space to the solid's,
            the camera in the solid's space, the height and both radii of the tapered
            capsule that the solid is in its space.
        surfaces: float64 `[n, 15]`: four labels, then two cuts of the height if the
            first is 0 or more, the first three labels lying between them; else, in
            the camera's space, a centre, a vector to the left and one up, the labels
            being upper left, upper right, lower left and lower right.
        boxes: int64 `[n, 4]`: left, top, right and bottom in pixels, the last two not
            inside.
        focal: pixels.
        centre: x and y of the principal point in pixels.
        depth: float32 `[h, w]`, metres or infinity, changed in place.
        labels: uint8 `[h, w]`, changed in place.
    """
    for i in range(len(solids)):
        m = solids[i]
        ox, oy, oz = m[9], m[10], m[11]
        height, first, second = m[12], m[13], m[14]
        slope = (first - second) / height if height > 0 else 1.0
        for v in range(boxes[i, 1], boxes[i, 3]):
            y = (v - centre[1]) / focal
            for u in range(boxes[i, 0], boxes[i, 2]):
                x = (u - centre[0]) / focal
                # The ray's third coordinate is 1, so its parameter is the depth.
                dx = m[0] * x + m[1] * y + m[2]
                dy = m[3] * x + m[4] * y + m[5]
                dz = m[6] * x + m[7] * y + m[8]
                z = _sphere(ox, oy, oz, dx, dy, dz, first)
                if height > 0:
                    z = min(z, _sphere(ox, oy, oz - height, dx, dy, dz, second))
                    if -1 < slope < 1:
                        z = min(z, _cone(ox, oy, oz, dx, dy, dz, first, height, slope))
                if 0 < z < depth[v, u]:
                    depth[v, u] = z
                    share = (oz + z * dz) / height if height > 0 else 0.0
                    labels[v, u] = _label(surfaces[i], share, x * z, y * z, z)


@numba.njit(cache=True)
def _label(surface, share, x, y, z):
    if surface[4] >= 0:
        return surface[0 if share < surface[4] else 1 if share < surface[5] else 2]
    x -= surface[6]
    y -= surface[7]
    z -= surface[8]
    right = surface[9] * x + surface[10] * y + surface[11] * z < 0
    lower = surface[12] * x + surface[13] * y + surface[14] * z < 0
    return surface[right + 2 * lower]


@numba.njit(cache=True, error_model="numpy")
def cast_plane(normal, distance, focal, centre, depth):
    """Casts rays to the plane of points whose product with `normal` is `distance`."""
    for v in range(depth.shape[0]):
        for u in range(depth.shape[1]):
            along = (normal[0] * (u - centre[0]) + normal[1] * (v - centre[1])) / focal
            z = distance / (along + normal[2])
            if 0 < z < depth[v, u]:
                depth[v, u] = z


@numba.njit(cache=True)
def _shadow(depth, shift, hidden):
    """Marks what the projector, which is to the right of the camera, cannot light.

    Seen from the projector a pixel lies `shift / depth` further left. What the
    projector sees keeps its order in a row; a pixel that would appear right of one
    that is right of it, and nearer, is behind that.
    """
    for v in range(depth.shape[0]):
        leftmost = np.float32(math.inf)
        for u in range(depth.shape[1] - 1, -1, -1):
            if depth[v, u] < math.inf:
                place = u - shift / depth[v, u]
                # Half a pixel: neighbours on one slanting surface are no shadow.
                hidden[v, u] = place > leftmost + 0.5
                leftmost = min(leftmost, place)


@numba.njit(cache=True, error_model="numpy")
def sense(depth, labels, noise, chance, settings, sensed, sensed_labels):
    """Makes of true depths what the sensor would measure.

    Args:
        depth: float32 `[h, w]` metres, infinity where nothing is.
        labels: uint8 `[h, w]`.
        noise: float32 `[3, h, w]` standard normal: of the disparity, and of the
            place, down and right.
        chance: float32 `[h, w]` in 0..1, uniform.
        settings: float64: deviation of disparity (units) and of place (pixels), share
            of pixels lost at edges and anywhere, step of depth that is an edge
            (metres), shift of the projector (pixels at 1 m), and a and b of
            disparity = a - b / depth.
        sensed: float32 `[h, w]`, metres, 0 where missing; written.
        sensed_labels: uint8 `[h, w]`, 0 where missing; written.
    """
    height, width = depth.shape
    hidden = np.zeros((height, width), np.bool_)
    _shadow(depth, settings[5], hidden)
    for v in range(height):
        for u in range(width):
            sensed[v, u] = 0
            sensed_labels[v, u] = 0
            y = min(max(v + int(round(settings[1] * noise[1, v, u])), 0), height - 1)
            x = min(max(u + int(round(settings[1] * noise[2, v, u])), 0), width - 1)
            z = depth[y, x]
            if not z < math.inf or hidden[y, x]:
                continue
            edge = False
            for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                j, i = y + dy, x + dx
                if 0 <= j < height and 0 <= i < width:
                    edge |= not abs(depth[j, i] - z) < settings[4]
            if chance[v, u] < (settings[2] if edge else settings[3]):
                continue
            disparity = round(
                settings[6] - settings[7] / z + settings[0] * noise[0, v, u]
            )
            if 0 <= disparity < settings[6] - 1:
                sensed[v, u] = settings[7] / (settings[6] - disparity)
                sensed_labels[v, u] = labels[y, x]
