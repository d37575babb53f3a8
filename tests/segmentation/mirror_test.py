"""The opinion on the mirror image is added with left and right exchanged."""

import numpy as np

from mlcvtf.segmentation.body_parts.mirror import SWAPPED, MirroredForest
from mlcvtf.segmentation.body_parts.parts import PARTS, mirrored


class LeftmostHand:
    """Takes the leftmost pixel of each row for a left hand, all others for necks."""

    trees = 3

    def classify(self, depth):
        labels = np.zeros(depth.shape, np.uint8)
        labels[depth > 0] = PARTS.index("neck") + 1
        for row in np.flatnonzero((depth > 0).any(1)):
            first = np.flatnonzero(depth[row])[0]
            labels[row, first] = PARTS.index("hand_left") + 1
        sums = np.zeros(((depth > 0).sum(), len(PARTS)), np.uint16)
        sums[np.arange(len(sums)), labels[depth > 0] - 1] = 255 * self.trees
        return labels, sums


def test_the_mirror_image_adds_the_other_hand():
    depth = np.zeros((4, 9), np.float32)
    depth[1, 2:7], depth[2, 0:4], depth[3, 8] = 2.0, 2.5, 3.0
    forest = MirroredForest(LeftmostHand())
    assert forest.trees == 6
    parts, sums = forest.classify(depth)
    assert (sums.sum(1) == 255 * 6).all() and sums.dtype == np.uint16
    left, right = PARTS.index("hand_left"), PARTS.index("hand_right")
    shown = np.zeros((4, 9, len(PARTS)), int)
    shown[depth > 0] = sums
    for row, first, last in ((1, 2, 6), (2, 0, 3), (3, 8, 8)):
        assert np.flatnonzero(shown[row, :, left]).tolist() == [first]
        assert np.flatnonzero(shown[row, :, right]).tolist() == [last]
    assert (parts == 0).sum() == (depth == 0).sum()
    assert parts[1, 4] == PARTS.index("neck") + 1
    np.testing.assert_array_equal(SWAPPED, mirrored(PARTS))


def test_what_speaks_for_both_sides_says_less():
    left, right = PARTS.index("hand_left"), PARTS.index("hand_right")
    sums = np.zeros((3, len(PARTS)), np.uint16)
    sums[0, left] = 255 * 6
    sums[1, [left, right]] = 255 * 3
    sums[2, [PARTS.index("neck"), left]] = 255 * 4, 255 * 2
    found = MirroredForest(LeftmostHand()).probabilities(sums)
    np.testing.assert_allclose(found[0, [left, right]], [1, 0])
    np.testing.assert_allclose(found[1, [left, right]], [0.25, 0.25])
    # The neck has no other side.
    np.testing.assert_allclose(found[2, [PARTS.index("neck"), left]], [2 / 3, 1 / 3])
    assert found.dtype == np.float32
