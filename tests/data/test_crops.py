"""Parts of images: those that torchvision's RandomResizedCrop would take of the same numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode
from torchvision.transforms import v2

from resnetlab.data.crops import DRAWS, Box, everything, part_of, random_box

SIDES = st.integers(1, 500)
UNIFORM = st.floats(0, 1, exclude_max=True, width=32)


class _Draws(TorchFunctionMode):
    """In its body, torchvision is given the numbers that it wants, uniform in 0 to 1.

    Each of its tries has four: for the area, for the ratio, and for the place where they fit.
    """

    def __init__(self, draws):
        super().__init__()
        self._tries = iter([iter(draws[start : start + 4]) for start in range(0, len(draws), 4)])
        self._uniform = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ == "uniform_":
            if self._uniform % 2 == 0:
                self._try = next(self._tries)
            self._uniform += 1
            low, high = map(float, args[1:])
            return torch.tensor([low + (high - low) * next(self._try)], dtype=torch.float64)
        if func.__name__ == "randint":
            return torch.tensor([int(args[1] * next(self._try))])
        return func(*args, **kwargs or {})


def torchvisions(draws, smallest, height, width):
    crop = v2.RandomResizedCrop(8, scale=(smallest, 1.0))
    with _Draws(draws):
        box = crop.make_params([torch.empty(3, height, width)])
    return Box(box["top"], box["left"], box["height"], box["width"])


@pytest.mark.parametrize("smallest", [0.08, 0.5, 1.0])
@pytest.mark.parametrize(("height", "width"), [(300, 400), (336, 336), (40, 300), (1, 7), (500, 9)])
def test_it_is_torchvisions_of_the_same_numbers(smallest, height, width):
    generator = np.random.default_rng(height)
    for _ in range(200):
        draws = generator.random(DRAWS).tolist()
        assert random_box(draws, smallest, height, width) == torchvisions(
            draws, smallest, height, width
        )


@given(
    draws=st.lists(UNIFORM, min_size=DRAWS, max_size=DRAWS),
    smallest=st.floats(0.01, 1),
    height=SIDES,
    width=SIDES,
)
def test_a_part_lies_within_the_image(draws, smallest, height, width):
    image = np.zeros((height, width, 3), np.uint8)
    box = random_box(draws, smallest, height, width)
    assert min(box.height, box.width) > 0
    assert min(box.top, box.left) >= 0
    part = part_of(image, lambda height, width: box)
    assert part.shape == (box.height, box.width, 3)
    assert np.shares_memory(part, image)
    assert part_of(image, everything).shape == image.shape
