from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.Image import Resampling
from torch.nn.functional import pad
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from resnetlab.data.augment import (
    alternating_flip,
    cutout,
    mix,
    random_crop,
    random_flip,
)
from resnetlab.data.augmentation import Augmentation
from resnetlab.data.images import normalize
from resnetlab.preprocessing import Preprocessing

LAYOUTS = st.sampled_from([torch.contiguous_format, torch.channels_last])
SHAPES = st.tuples(st.integers(1, 6), st.sampled_from([1, 3]), st.integers(3, 9), st.integers(3, 9))
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PREPROCESSING = Preprocessing(mean=MEAN, std=STD, size=32)
NOTHING = Augmentation(preprocessing=PREPROCESSING, num_classes=10, seed=4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(n=6, c=3, h=8, w=8, layout=torch.contiguous_format):
    images = torch.randint(0, 256, (n, c, h, w), dtype=torch.uint8, generator=generator(1))
    return images.contiguous(memory_format=layout)


@settings(deadline=None)
@given(
    shape=SHAPES,
    layout=LAYOUTS,
    padding=st.integers(0, 2),
    mode=st.sampled_from(["zero", "reflect"]),
    seed=st.integers(0, 99),
)
def test_crops_are_windows_of_the_padded_image(shape, layout, padding, mode, seed):
    images = random_images(*shape, layout=layout)
    before = images.clone()
    crops = random_crop(images, padding, generator(seed), mode)
    assert crops.dtype == torch.uint8
    kind = {"zero": "constant", "reflect": "reflect"}[mode]
    padded = pad(images.float(), (padding,) * 4, mode=kind).byte()
    windows = padded.unfold(2, shape[2], 1).unfold(3, shape[3], 1)  # (n, c, y, x, h, w)
    for crop, choices in zip(crops, windows.permute(0, 2, 3, 1, 4, 5), strict=True):
        assert (choices == crop).flatten(2).all(2).any()
    assert torch.equal(images, before)


def test_crops_reach_every_offset_evenly():
    marked = torch.zeros(9000, 1, 5, 5, dtype=torch.uint8)
    marked[:, 0, 2, 2] = 1
    where = random_crop(marked, 1, generator()).flatten(1).int().argmax(1).bincount(minlength=25)
    assert where.view(5, 5)[1:4, 1:4].sum() == 9000
    assert where.view(5, 5)[1:4, 1:4].min() > 850


def test_reflection_needs_room():
    with pytest.raises(ValueError, match="reflecting 8 pixels needs images larger than 8 x 8"):
        random_crop(random_images(), 8, generator(), "reflect")


@given(shape=SHAPES, layout=LAYOUTS, seed=st.integers(0, 99))
def test_flips_mirror_or_leave(shape, layout, seed):
    images = random_images(*shape, layout=layout)
    flipped = random_flip(images, generator(seed))
    for before, after in zip(images, flipped, strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(-1))


def flipped_share(images, flipped):
    return (images != flipped).flatten(1).any(1).float().mean().item()


def test_half_of_the_images_are_flipped():
    images = random_images(4000, 1, 4, 4)
    assert flipped_share(images, random_flip(images, generator())) == pytest.approx(0.5, abs=0.03)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**60), epoch=st.integers(0, 1000))
def test_alternating_flips_alternate(seed, epoch):
    images = random_images(200, 1, 4, 4)
    indices = torch.arange(1000, 1200)
    first = alternating_flip(images, indices, epoch, seed)
    second = alternating_flip(images, indices, epoch + 1, seed)
    assert torch.equal(second, first.flip(-1))
    assert torch.equal(first, alternating_flip(images, indices, epoch + 2, seed))
    assert 0.3 < flipped_share(images, first) < 0.7
    # It is the sample's index that counts, not its place in the batch.
    order = torch.randperm(200, generator=generator(epoch))
    assert torch.equal(alternating_flip(images[order], indices[order], epoch, seed), first[order])


def test_alternating_flips_have_a_phase_for_each_seed():
    images, indices = random_images(500, 1, 4, 4), torch.arange(500)
    one, two = (alternating_flip(images, indices, 0, seed) for seed in (0, 1))
    assert 0.4 < flipped_share(one, two) < 0.6


@settings(deadline=None)
@given(shape=SHAPES, layout=LAYOUTS, size=st.integers(1, 5), seed=st.integers(0, 99))
def test_cutout_paints_one_square(shape, layout, size, seed):
    n, c, h, w = shape
    images = random_images(*shape, layout=layout) // 2 + 100  # 100..227: 7 is no pixel
    holes = cutout(images, size, generator(seed), 7) == 7
    assert torch.equal(holes, holes[:, :1].expand(n, c, h, w))
    for hole in holes[:, 0]:
        rows, columns = hole.any(1), hole.any(0)
        assert torch.equal(hole, rows[:, None] & columns)
        for line, length in ((rows, h), (columns, w)):
            where = line.nonzero().flatten()
            assert 0 < len(where) <= size
            assert len(where) == where[-1] - where[0] + 1
            inside = where[0] > 0 and where[-1] < length - 1
            assert len(where) == size or not inside


def test_cutout_in_a_colour():
    painted = cutout(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 9, generator(), [1, 2, 3])
    assert painted[0].flatten(1).amax(1).tolist() == [1, 2, 3]


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_mix(mixup, cutmix):
    images = normalize(random_images(), PREPROCESSING)
    labels = torch.arange(6)
    state = torch.get_rng_state()
    options = {"mixup": mixup, "cutmix": cutmix, "num_classes": 10}
    mixed, soft = mix(images, labels, seed=5, **options)
    assert torch.equal(state, torch.get_rng_state())
    assert soft.shape == (6, 10)
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    assert (soft[torch.arange(6), labels] > 0).all()
    again = mix(images, labels, seed=5, **options)
    assert torch.equal(mixed, again[0])
    assert torch.equal(soft, again[1])
    assert any(not torch.equal(soft, mix(images, labels, seed=s, **options)[1]) for s in range(9))


PLAN = replace(NOTHING, crop_padding=2, flip="random", cutout=3, mixup=0.2, cutmix=1.0)
PLACE = {"epoch": 1, "step": 2}


def test_nothing_is_the_evaluation_path():
    images, labels = random_images(), torch.arange(6)
    pixels, same = NOTHING(images, labels, labels, **PLACE)
    assert torch.equal(pixels, normalize(images, PREPROCESSING))
    assert same is labels


@pytest.mark.parametrize("channels", [1, 3])
def test_a_smaller_size_is_pillows(channels):
    """Within one of 255 counts: both round after each of two passes."""
    images, indices = random_images(4, channels, 32, 32), torch.arange(4)
    raw = Preprocessing(mean=(0.0,) * channels, std=(1.0,) * channels, size=32)
    pixels, _ = Augmentation(preprocessing=raw)(images, indices, indices, **PLACE, size=17)
    small = [to_pil_image(image).resize((17, 17), Resampling.BILINEAR) for image in images]
    wanted = torch.stack([pil_to_tensor(image) for image in small])
    counts = (255 * pixels).round()
    torch.testing.assert_close(255 * pixels, counts, atol=1e-3, rtol=0)
    assert (counts - wanted).abs().max() <= 1


def test_everything_follows_from_seed_epoch_and_step():
    images, labels = random_images(), torch.arange(6)
    state = torch.get_rng_state()
    wanted = PLAN(images, labels, labels, **PLACE)
    for layout in (torch.contiguous_format, torch.channels_last):
        stored = images.contiguous(memory_format=layout)
        found = PLAN(stored, labels, labels, **PLACE, memory_format=layout)
        assert torch.equal(found[0], wanted[0])
        assert torch.equal(found[1], wanted[1])
        assert found[0].is_contiguous(memory_format=layout)
    for key in PLACE:
        other = PLAN(images, labels, labels, **(PLACE | {key: 9}))
        assert not torch.equal(other[0], wanted[0])
    assert not torch.equal(replace(PLAN, seed=9)(images, labels, labels, **PLACE)[0], wanted[0])
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_draw_for_their_images_what_one_process_would(ranks):
    images, labels = random_images(), torch.arange(6)
    plan = replace(PLAN, mixup=0.0, cutmix=0.0)
    whole, _ = plan(images, labels, labels, **PLACE)
    n = 6 // ranks
    parts = [
        plan(images[n * rank :][:n], labels[:n], labels[:n], **PLACE, share=(rank, ranks))[0]
        for rank in range(ranks)
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_cutout_of_the_whole_recipe_is_zero_after_normalisation():
    images = torch.full((4, 3, 8, 8), 255, dtype=torch.uint8)
    pixels, _ = replace(NOTHING, cutout=16)(images, torch.arange(4), torch.arange(4), **PLACE)
    assert pixels.abs().min() < 0.01


def test_alternating_plan_uses_indices():
    plan = replace(NOTHING, flip="alternating")
    images, labels = random_images(50), torch.arange(50)
    first, second = (plan(images, labels, labels, **(PLACE | {"epoch": e}))[0] for e in (0, 1))
    assert torch.equal(first, second.flip(-1))
