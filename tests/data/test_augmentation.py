"""Views of photographs: torchvision's transforms, drawn by (seed, epoch, sample)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from resnetlab.data.augmentation import Augmentation, margin_size
from resnetlab.data.crops import DRAWS, random_box
from resnetlab.data.memory import MemoryDataset
from resnetlab.preprocessing import Preprocessing
from resnetlab.seeding import DrawsFrom, fold_in

PREPROCESSING = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), size=16)
NOTHING = Augmentation(preprocessing=PREPROCESSING, num_classes=3, seed=5)
BILINEAR = v2.InterpolationMode.BILINEAR
CHOICES = {
    "color_jitter": (0.4, v2.ColorJitter(0.4, 0.4, 0.4)),
    "auto_augment": ("rand", v2.RandAugment(interpolation=BILINEAR)),
    "random_erasing": (0.5, v2.RandomErasing(0.5, value=[128, 102, 76])),
}


def dataset(n=12, channels=3, side=16):
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (n, side, side, channels), np.uint8))
    how = replace(PREPROCESSING, mean=(0.5,) * channels, std=(0.2,) * channels)
    return MemoryDataset(
        name="noise",
        split="train",
        images=images.permute(0, 3, 1, 2),
        labels=torch.arange(n) % 3,
        classes=("a", "b", "c"),
        preprocessing=how,
    )


@pytest.mark.parametrize("choice", [*CHOICES, "trivial"])
def test_views_are_torchvisions_with_the_seed_of_epoch_and_sample(choice):
    name, (value, transform) = choice, CHOICES.get(choice, (0, None))
    if choice == "trivial":
        name, value = "auto_augment", "trivial"
        transform = v2.TrivialAugmentWide(interpolation=BILINEAR)
    augmentation = replace(NOTHING, **{name: value})
    data = dataset()
    for epoch in range(4):
        images, labels = augmentation.load(data, torch.arange(12), epoch)
        for index in range(12):
            torch.manual_seed(fold_in(5, "sample", epoch, index))
            assert torch.equal(images[index], transform(data.images[index]))
        assert torch.equal(labels, data.labels)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_random_crop_is_resized_as_torchvision_does(interpolation):
    data = dataset(side=40)
    how = replace(PREPROCESSING, interpolation=interpolation)
    augmentation = replace(NOTHING, resized_crop=0.3, preprocessing=how)
    for epoch in range(4):
        images, labels = augmentation.load(data, torch.arange(12), epoch)
        for index in range(12):
            generator = torch.Generator().manual_seed(fold_in(5, "sample", epoch, index))
            draws = torch.rand(DRAWS, generator=generator).tolist()
            box = random_box(draws, 0.3, 40, 40)
            mode = v2.InterpolationMode(interpolation)
            image = data.images[index].contiguous()
            wanted = v2.functional.resized_crop(image, *box, [16, 16], mode)
            assert torch.equal(images[index], wanted)
        assert torch.equal(labels, data.labels)


EVERYTHING = replace(
    NOTHING,
    **{name: value for name, (value, _) in CHOICES.items()},
    resized_crop=0.3,
    flip="random",
    cutout=4,
    crop_padding=3,
)


@settings(max_examples=25)
@given(
    order=st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True),
    epoch=st.integers(0, 5),
    threads=st.integers(1, 3),
    crop=st.sampled_from([0.0, 0.3]),
)
def test_a_view_depends_on_seed_epoch_and_sample_alone(order, epoch, threads, crop):
    augmentation, data = replace(EVERYTHING, resized_crop=crop), dataset()
    indices = torch.tensor(order)
    whole, _ = augmentation.load(data, torch.arange(12), epoch)
    before, state = torch.get_num_threads(), torch.random.get_rng_state()
    torch.set_num_threads(threads)
    try:
        some, labels = augmentation.load(data, indices, epoch)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(some, whole[indices])
    assert torch.equal(torch.random.get_rng_state(), state)
    # What comes after is no longer random.
    for step, share in ((0, (0, 1)), (3, (1, 2))):
        pixels, _ = augmentation(some, labels, indices, epoch=epoch, step=step, share=share)
        other, _ = NOTHING(some, labels, indices, epoch=epoch, step=step)
        assert torch.equal(pixels, other)
    others = augmentation.load(data, torch.arange(12), epoch + 1)[0]
    assert not torch.equal(others, whole)
    others = replace(augmentation, seed=6).load(data, torch.arange(12), epoch)[0]
    assert not torch.equal(others, whole)


def test_grey_images_and_alternating_flips():
    data = dataset(channels=1)
    augmentation = replace(
        EVERYTHING, flip="alternating", preprocessing=data.preprocessing, auto_augment="trivial"
    )
    images, _ = augmentation.load(data, torch.arange(12), 0)
    assert images.shape == (12, 1, 16, 16)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_without_photographs_augmentation_images_are_the_data_sets():
    data = dataset()
    images, _ = replace(NOTHING, flip="random", cutout=3).load(data, torch.arange(5), 1)
    assert torch.equal(images, data.images[:5])


def test_no_draw_of_torch_escapes_a_generator():
    state = torch.random.get_rng_state()
    drawn = []
    for _ in range(2):
        with DrawsFrom(torch.Generator().manual_seed(1)):
            numbers = [torch.rand(2), torch.randn(2), torch.randint(99, (2,)), torch.randperm(5)]
            numbers += [torch.empty(2).uniform_(), torch.empty(2).normal_()]
        drawn.append(numbers)
    assert all(map(torch.equal, *drawn))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert margin_size(224) == 336
