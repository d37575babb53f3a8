"""Mosaic and copy-paste against rectangles of known colours."""

import numpy as np
import pytest

from mlcvtf.data.augment_mixing import CopyPaste, MixUp, Mosaic
from mlcvtf.errors import InputError
from tests.data.drawn import COLOURS, draw_of, drawn, extent, random_box, seen

SIZE = (120, 180)
SEEDS = range(30)


def four(seed):
    """Four pictures of different sizes, one coloured rectangle in each."""
    generator = np.random.default_rng(1000 + seed)
    sizes = [(96, 160), (80, 80), (120, 60), (50, 90)]
    return [drawn(random_box(generator, size), size=size, colour=i, label=i)
            for i, size in enumerate(sizes)]


def test_a_mosaic_shows_each_box_where_its_thing_is():
    mosaic = Mosaic(1.0, (0.5, 1.5), visible=0.0, min_side=0.0)
    found = {i: 0 for i in range(4)}
    for seed in SEEDS:
        one, *others = four(seed)
        joined = mosaic(one, draw_of(seed, *others, size=SIZE))
        assert joined.size == SIZE and joined.pair.shape == joined.image.shape
        np.testing.assert_array_equal(joined.pair, joined.image)
        for i in range(4):
            visible = seen(joined.image, i)
            of_it = np.flatnonzero(joined.labels == i)
            if not len(of_it):
                assert visible is None or (visible[2:] - visible[:2]).min() <= 1
                continue
            box, mask = joined.boxes[of_it[0]], extent(joined.masks[of_it[0]])
            if visible is None or mask is None:
                assert (box[2:] - box[:2]).min() <= 1.5
                continue
            found[i] += 1
            np.testing.assert_allclose(box, visible, atol=1.2)
            np.testing.assert_allclose(box, mask, atol=1.2)
            points = joined.landmarks[of_it[0]]
            if not np.isnan(points).any():
                frame = np.concatenate([points.min(0), points.max(0)])
                np.testing.assert_allclose(box, frame, atol=1e-3)
        there = joined.masks.any(axis=0)
        assert (joined.mask[there] == 1).all() and (joined.mask[~there] == 0).all()
    assert min(found.values()) >= 10


def test_the_smallest_side_is_meant_in_the_mosaic():
    mosaic = Mosaic(1.0, (0.5, 0.5), visible=0.0, min_side=10)
    sides = []
    for seed in SEEDS:
        one, *others = four(seed)
        boxes = mosaic(one, draw_of(seed, *others, size=SIZE)).boxes
        sides.extend((boxes[:, 2:] - boxes[:, :2]).ravel())
    # Windows have whole pixels, so that a factor may be a few percent off.
    assert 9.5 < min(sides) < 14


def test_a_mosaic_has_no_empty_place():
    """White pictures leave no black pixel and no mask value of nowhere."""
    mosaic = Mosaic(1.0)
    for seed in SEEDS:
        whites = [one._replace(image=np.full_like(one.image, 255), pair=None)
                  for one in four(seed)]
        joined = mosaic(whites[0], draw_of(seed, *whites[1:], size=SIZE))
        assert (joined.image > 127).all() and (joined.mask >= 0).all()


def masked(sample):
    return sample._replace(mask=None, pair=None)


def test_a_mixture_shows_both_things_in_their_boxes():
    for seed in SEEDS:
        one, _, other, _ = (masked(sample) for sample in four(seed))
        mixed = MixUp(1.0)(one, draw_of(seed, other, size=(130, 170)))
        assert mixed.size == (130, 170) and mixed.labels.tolist() == [0, 2]
        # Red and blue, the one as weak as the other is strong.
        for i, channel in ((0, 0), (1, 2)):
            found = extent(mixed.image[..., channel] > 0)
            np.testing.assert_array_equal(mixed.boxes[i], found)
            np.testing.assert_array_equal(extent(mixed.masks[i]), found)
        strengths = mixed.image[..., [0, 2]].reshape(-1, 2).max(0).astype(int)
        assert abs(strengths.sum() - 255) <= 1 and strengths.min() > 0
    with pytest.raises(InputError, match="a pixel has one class"):
        MixUp(1.0)(drawn((20, 20, 60, 60)), draw_of(0))


def test_pasted_things_are_where_their_boxes_are():
    paste = CopyPaste(1.0, chosen=1.0, blur=0, visible=0.0, min_side=0.0)
    pasted = 0
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        below = masked(drawn(random_box(generator, SIZE), size=SIZE, colour=0))
        over = masked(drawn(random_box(generator, (90, 90)), size=(90, 90), colour=1,
                            label=2))
        joined = paste(below, draw_of(seed, over, size=SIZE))
        assert joined.size == SIZE
        for label, colour in ((1, 0), (2, 1)):
            of_it = np.flatnonzero(joined.labels == label)
            visible = seen(joined.image, colour)
            if not len(of_it):
                assert visible is None or (visible[2:] - visible[:2]).min() <= 1
                continue
            pasted += label == 2
            mask = extent(joined.masks[of_it[0]])
            box = joined.boxes[of_it[0]]
            np.testing.assert_allclose(box, mask, atol=1.2)
            np.testing.assert_allclose(mask, visible, atol=1)
        # No pixel belongs to two things.
        assert joined.masks.sum(axis=0).max() <= 1
    assert pasted >= 20


def test_what_is_covered_loses_its_mask_and_its_box_follows():
    below = masked(drawn((20, 20, 60, 60), (100, 20, 120, 60), size=(100, 150)))
    over = masked(drawn((40, 0, 100, 100), size=(100, 150), colour=1, label=2))
    joined = CopyPaste(blur=0).paste(below, over)
    assert joined.labels.tolist() == [1, 1, 2]
    np.testing.assert_array_equal(
        joined.boxes, [[20, 20, 40, 60], [100, 20, 120, 60], [40, 0, 100, 100]])
    np.testing.assert_array_equal(seen(joined.image, 1), [40, 0, 100, 100])
    # Half of the first thing is left.
    assert CopyPaste(visible=0.51).paste(below, over).labels.tolist() == [1, 2]
    assert CopyPaste(min_side=21).paste(below, over).labels.tolist() == [2]


def test_a_box_without_a_mask_stays_until_it_is_covered():
    below = masked(drawn((20, 20, 60, 60), size=(100, 150)))
    below = below._replace(masks=np.zeros_like(below.masks))
    half = masked(drawn((40, 0, 100, 100), size=(100, 150), colour=1, label=2))
    most = masked(drawn((25, 0, 100, 100), size=(100, 150), colour=1, label=2))
    assert CopyPaste().paste(below, half).boxes[0].tolist() == [20, 20, 60, 60]
    assert CopyPaste().paste(below, most).labels.tolist() == [2]


def test_crowds_and_things_without_mask_are_not_pasted():
    below = masked(drawn((20, 20, 60, 60), size=(100, 150)))
    over = masked(drawn((10, 10, 40, 40), (50, 10, 90, 40), (50, 50, 90, 90),
                        size=(100, 150), colour=1, label=2))
    over = over._replace(crowd=np.array([True, False, False]),
                         labels=np.array([5, 6, 7], np.int32))
    over.masks[1] = 0
    paste = CopyPaste(1.0, chosen=1.0, scale=(1, 1))
    joined = paste(below, draw_of(0, over, size=(100, 150)))
    assert joined.labels.tolist() == [1, 7]
    nothing = over._replace(masks=np.zeros_like(over.masks))
    assert paste(below, draw_of(0, nothing, size=(100, 150))) is below


def test_soft_edges_change_only_edges():
    below = masked(drawn(size=(60, 60)))
    over = masked(drawn((20, 20, 40, 40), size=(60, 60)))
    hard = CopyPaste(blur=0).paste(below, over).image
    soft = CopyPaste(blur=1).paste(below, over).image
    np.testing.assert_array_equal(hard, over.image)
    differs = (hard != soft).any(-1)
    assert differs[20, 25] and not differs[24:36, 24:36].any()
    assert not differs[:15].any() and soft[24, 24].tolist() == COLOURS[0].tolist()


def test_copy_paste_says_that_it_needs_masks():
    bare = masked(drawn((20, 20, 60, 60)))._replace(masks=None)
    with pytest.raises(InputError, match="masks='augment'"):
        CopyPaste(1.0)(bare, draw_of(0, bare))


@pytest.mark.parametrize("augmentation", [Mosaic(0.3), MixUp(0.3),
                                          CopyPaste(0.3)])
def test_probabilities_are_kept(augmentation):
    one = masked(drawn((20, 20, 60, 60)))
    same = [augmentation(one, draw_of(seed, one, one, one)) is one
            for seed in range(300)]
    assert 0.6 < np.mean(same) < 0.9
