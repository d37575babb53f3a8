"""The renderer beside a slow oracle; the sensor; where limbs and labels are."""

import numpy as np
import pytest

from mlcvtf.segmentation.body_parts import body, rendering
from mlcvtf.segmentation.body_parts.camera import (
    Camera,
    Placement,
    Sensor,
    View,
    axes_to_camera,
    random_placement,
    to_camera,
)
from mlcvtf.segmentation.body_parts.parts import (
    JOINTS,
    PARTS,
    label_of,
    labels_of_joint,
)
from tests.segmentation.made_mocap import standing

# A quarter of the pixels is enough where a whole person has to be seen.
SMALL = Camera(160, 120, 142.8)


def random_solids(rng, count):
    """Tapered capsules of any shape around (0, 0, 3), and their surfaces."""
    axes, shapes = [], []
    for _ in range(count):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        axes.append(turn * rng.uniform(0.5, 1.5, (3, 1)))
        height = rng.choice([0.0, rng.uniform(0.05, 0.6)])
        first, second = rng.uniform(0.05, 0.3, 2)
        shapes.append([height, first, second if height else first])
    starts = rng.normal(0, 0.4, (count, 3))
    surfaces = np.tile([*[1.0] * 4, 2, 2, *[0] * 9], (count, 1))
    surfaces[:, :4] = np.arange(1, count + 1)[:, None]
    return body.Solids(starts, np.array(axes), np.array(shapes), surfaces)


def slow_depth(solids, i, placement, camera):
    """A tapered capsule is all the balls between its ends: 400 of them."""
    turn = axes_to_camera(placement)
    start = to_camera(solids.starts[i : i + 1], placement)[0]
    axes = solids.axes[i] @ turn.T
    inverse = np.linalg.inv(axes.T)
    rays = camera.points(np.ones((camera.height, camera.width))) @ inverse.T
    height, first, second = solids.shapes[i]
    depth = np.full(rays.shape[:2], np.inf)
    for share in np.linspace(0, 1, 400):
        origin = inverse @ -start - (0, 0, share * height)
        radius = first + share * (second - first)
        a, b = (rays**2).sum(-1), rays @ origin
        inside = b**2 - a * (origin @ origin - radius**2)
        with np.errstate(invalid="ignore"):
            hit = (-b - np.sqrt(inside)) / a
        depth = np.fmin(depth, np.where(inside >= 0, hit, np.inf))
    return depth


def test_depth_and_labels_against_a_slow_oracle():
    rng = np.random.default_rng(0)
    camera = Camera(64, 48, 60.0)
    placement = Placement(0.7, 0.2, np.array([0.1, 0, 3]), 1.0)
    solids = random_solids(rng, 12)
    depth, labels = rendering.render(solids, placement, camera)
    slow = np.stack([slow_depth(solids, i, placement, camera) for i in range(12)])
    nearest = slow.min(0)
    # The balls leave dents between them.
    both = np.isfinite(depth) & np.isfinite(nearest)
    assert both.sum() > 300
    np.testing.assert_allclose(depth[both], nearest[both], atol=1e-4)
    assert (np.isfinite(depth) ^ np.isfinite(nearest)).sum() <= 2
    clear = both & ((slow < nearest + 0.03).sum(0) == 1)
    np.testing.assert_array_equal(labels[clear], slow.argmin(0)[clear] + 1)


def test_boxes_hold_all_that_is_hit():
    """Each solid alone, in its box and without one, gives the same picture."""
    from mlcvtf.segmentation.body_parts import render_kernels

    rng = np.random.default_rng(1)
    solids = random_solids(rng, 40)
    camera = Camera(64, 48, 60.0)
    placement = Placement(0.0, 0.0, np.array([0, 0, 1.6]), 1.0)
    turn = axes_to_camera(placement)
    starts, axes = to_camera(solids.starts, placement), solids.axes @ turn.T
    boxes = rendering._boxes(starts, axes, solids.shapes, camera)
    maps = np.linalg.inv(np.swapaxes(axes, 1, 2))
    origins = -np.einsum("nij,nj->ni", maps, starts)
    rows = np.hstack([maps.reshape(-1, 9), origins, solids.shapes])
    whole = np.array([[0, 0, 64, 48]])
    hit = 0
    for i in range(40):
        pictures = []
        for box in (boxes[i : i + 1], whole):
            depth = np.full((48, 64), np.inf, np.float32)
            render_kernels.cast(
                rows[i : i + 1],
                solids.surfaces[i : i + 1],
                box,
                60.0,
                np.array(camera.centre),
                depth,
                np.zeros((48, 64), np.uint8),
            )
            pictures.append(depth)
        # What is nearer than the sensor sees may be cut.
        if starts[i, 2] > 1.2:
            np.testing.assert_array_equal(*pictures)
            hit += np.isfinite(pictures[0]).any()
    assert hit > 20 and (boxes[:, 2] - boxes[:, 0]).min() < 32


def front(yaw=0.0, pitch=0.0):
    placement = Placement(np.radians(yaw), pitch, np.array([0, 0.1, 3.0]), 1.0)
    return rendering.clean_picture(standing(), body.mean_build(), placement)


def test_left_is_left_and_up_is_up():
    for yaw, sign in ((0, 1), (180, -1)):
        picture = front(yaw)
        rows, columns = np.indices(picture.depth.shape)
        centre = {
            name: (
                columns[picture.labels == label_of(name)].mean(),
                rows[picture.labels == label_of(name)].mean(),
            )
            for name in PARTS
            if label_of(name) in picture.labels
        }
        # Hair, buttocks and such hide none of the parts.
        assert len(centre) == 31
        for name in PARTS:
            if name.endswith("_left"):
                other = name.replace("left", "right")
                # A person who faces the camera has the left hand at the right.
                assert sign * (centre[name][0] - centre[other][0]) > 3, name
        order = (
            "head_upper_left",
            "head_lower_left",
            "neck",
            "torso_upper_left",
            "torso_lower_left",
            "leg_upper_left",
            "knee_left",
            "leg_lower_left",
            "ankle_left",
        )
        heights = [centre[name][1] for name in order]
        assert heights == sorted(heights)
        along = (
            "torso_upper_left",
            "shoulder_left",
            "arm_upper_left",
            "elbow_left",
            "arm_lower_left",
            "wrist_left",
            "hand_left",
        )
        places = [sign * centre[name][0] for name in along]
        assert places == sorted(places)


def test_joints_lie_under_the_pixels_of_their_parts():
    picture = front()
    for joint, place, point in zip(
        JOINTS, Camera().project(picture.joints), picture.joints, strict=True
    ):
        x, y = np.round(place).astype(int)
        assert picture.labels[y, x] in labels_of_joint(joint), joint
        assert 0.005 < point[2] - picture.depth[y, x] < 0.15, joint


def test_true_labels_tell_where_joints_are():
    """The middle of a part's pixels, pushed back, is within the paper's 10 cm."""
    errors = {joint: [] for joint in JOINTS}
    for seed in range(40):
        picture = rendering.random_picture(standing(), np.random.default_rng(seed))
        points = Camera().points(picture.depth)
        for joint, point in zip(JOINTS, picture.joints, strict=True):
            there = np.isin(picture.labels, labels_of_joint(joint))
            if there.sum() > 10:
                errors[joint].append(point - np.median(points[there], axis=0))
    for joint, found in errors.items():
        assert len(found) > 25, joint
        push = np.median([error[2] for error in found])
        assert 0.005 < push < 0.1, joint
        distances = np.linalg.norm(np.array(found) - (0, 0, push), axis=1)
        assert (distances < 0.1).mean() > 0.95, joint


def test_yaw_turns_to_the_right_of_the_camera():
    nose = front(90)
    joints = dict(zip(JOINTS, nose.joints, strict=True))
    assert joints["foot_left"][0] > joints["ankle_left"][0] + 0.05
    # The left side is away from the camera then.
    assert joints["hand_left"][2] > joints["hand_right"][2] + 0.5


def test_pitch_looks_down():
    # The vertical leans to the camera: heads come nearer, feet go away.
    level, down = front().joints, front(pitch=0.1).joints
    head, foot = JOINTS.index("head"), JOINTS.index("foot_left")
    assert down[head, 2] < level[head, 2] - 0.05
    assert down[foot, 2] > level[foot, 2] + 0.05
    np.testing.assert_allclose(
        np.linalg.norm(down[head] - down[foot]),
        np.linalg.norm(level[head] - level[foot]),
        rtol=1e-5,
    )


def test_the_mean_body_is_as_tall_as_it_says():
    points, solids = body.points_and_solids(standing(), body.mean_build())
    picture = front()
    there = picture.depth > 0
    seen = Camera().points(picture.depth)[there]
    assert 1.65 < np.ptp(seen[:, 1]) < 1.80
    assert np.isfinite(points).all() and 20 < len(solids.starts) < 60


def test_builds_vary_within_bounds():
    rng = np.random.default_rng(0)
    builds = [body.random_build(rng) for _ in range(300)]
    statures = np.array([build.stature for build in builds])
    assert statures.min() >= 1.5 and statures.max() <= 1.95 and statures.std() > 0.06
    for build in builds:
        assert all(0.01 < radius < 0.2 for radius in build.radii.values())
        assert all(0 <= cloth < 0.05 for cloth in build.cloth.values())
    for odd in ("skirt", "hair", "belly"):
        share = np.mean([getattr(build, odd) > 0 for build in builds])
        assert 0.02 < share < 0.9, odd


def test_a_seed_is_a_picture():
    def picture(seed, **kwargs):
        return rendering.random_picture(
            standing(), np.random.default_rng(seed), camera=SMALL, **kwargs
        )

    one, same, other = picture(1), picture(1), picture(2)
    for a, b in zip(one[:3], same[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.depth != other.depth).any() and one.placement.yaw != other.placement.yaw
    assert one.depth.dtype == np.float32 and one.labels.dtype == np.uint8
    assert one.joints.shape == (16, 3) and one.joints.dtype == np.float32
    # Without a room whatever has a depth has a part.
    np.testing.assert_array_equal(one.depth > 0, one.labels > 0)
    room = picture(1, room=True)
    assert (room.depth > 0).mean() > 0.9 and 0 < (room.labels > 0).mean() < 0.5
    np.testing.assert_array_equal(room.joints, one.joints)


def test_places_are_where_they_should_be():
    points, solids = body.points_and_solids(standing(), body.mean_build())
    lowest = rendering._lowest(solids)
    camera, rng = Camera(), np.random.default_rng(0)
    distances, yaws = [], []
    for _ in range(200):
        placement = random_placement(points, lowest, camera, View(), rng)
        seen = to_camera(points, placement)
        x, y = camera.project(seen).T
        assert 0 < x.min() and x.max() < 320
        middle = (y.min() + y.max()) / 2
        assert 90 < middle < 150
        # Back from the tilted camera: on a level floor, 2.2 to 3.8 m ahead.
        up = axes_to_camera(placement)[:, 1]
        pelvis = placement.shift
        height = pelvis @ up + placement.floor
        assert height == pytest.approx(-lowest, abs=1e-6)
        flat = pelvis - (pelvis @ up) * up
        distances.append(np.hypot(flat[1], flat[2]))
        yaws.append(placement.yaw)
    assert 2.2 <= min(distances) < 2.3 and 3.7 < max(distances) <= 3.8
    assert min(yaws) < -3 and max(yaws) > 3
    ahead = View((1.0, 1.5), (0.5, 0.5), 0.0, 10.0)
    for _ in range(20):
        placement = random_placement(points, lowest, camera, ahead, rng)
        assert abs(placement.yaw) <= np.radians(10) and placement.floor == 0.5


def wall(distance, shape=(60, 80)):
    return np.full(shape, distance, np.float32), np.ones(shape, np.uint8)


def test_noise_grows_with_the_square_of_depth():
    deviations = []
    for distance in (1.5, 3.0):
        depth, labels = rendering.measure(
            *wall(distance), Camera(), Sensor(), np.random.default_rng(0)
        )
        values = depth[depth > 0].astype(np.float64)
        assert (depth > 0).mean() > 0.98
        assert values.mean() == pytest.approx(distance, abs=0.004)
        # Khoshelham and Elberink: 1.43e-3 z^2, rounding included.
        assert 1.3e-3 < values.std() / distance**2 < 1.6e-3
        deviations.append(values.std())
        np.testing.assert_array_equal(labels > 0, depth > 0)
    assert deviations[1] / deviations[0] == pytest.approx(4, rel=0.15)


def test_disparity_has_whole_steps():
    depth, _ = rendering.measure(
        *wall(3.0), Camera(), Sensor(), np.random.default_rng(0)
    )
    shift = Sensor().settings(Camera())[7]
    assert shift == pytest.approx(8 * 0.075 * 571.26, rel=1e-3)
    disparity = 1090 - shift / depth[depth > 0].astype(np.float64)
    np.testing.assert_allclose(disparity, np.round(disparity), atol=1e-3)
    # What is too near for 11 bits is missing: 0 is 31 cm away.
    assert not rendering.measure(
        *wall(0.3), Camera(), Sensor(disparity_noise=0), np.random.default_rng(0)
    )[0].any()


def test_the_shadow_falls_to_the_left():
    """A plate before a wall hides as much as its parallax from the projector."""
    depth, labels = wall(3.0)
    depth[20:40, 40:60] = 1.5
    exact = Sensor(0.0, 0.0, 0.0, 0.0)
    sensed, sensed_labels = rendering.measure(
        depth, labels, Camera(), exact, np.random.default_rng(0)
    )
    missing = np.flatnonzero(sensed[30] == 0)
    width = 0.075 * 285.63 * (1 / 1.5 - 1 / 3.0)
    assert width == pytest.approx(7.1, abs=0.1)
    # Half a pixel is allowed for, so 6.6 pixels are hidden.
    np.testing.assert_array_equal(missing, np.arange(34, 40))
    assert not sensed_labels[30, missing].any() and (sensed[10] > 0).all()


def test_edges_lose_pixels():
    depth, labels = wall(3.0)
    depth[:, 40:] = 2.0
    sensor = Sensor(0.0, 0.0, 0.5, 0.0, baseline=1e-9)
    sensed, _ = rendering.measure(
        depth,
        labels,
        Camera(),
        sensor._replace(baseline=0.075),
        np.random.default_rng(0),
    )
    lost = (sensed == 0).mean(0)
    assert 0.25 < lost[40] < 0.75 and not lost[41:].any() and not lost[:30].any()
    nothing = np.full((60, 80), np.inf, np.float32)
    sensed, sensed_labels = rendering.measure(
        nothing,
        np.zeros((60, 80), np.uint8),
        Camera(),
        Sensor(),
        np.random.default_rng(0),
    )
    assert not sensed.any() and not sensed_labels.any()
