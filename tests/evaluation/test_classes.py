from types import SimpleNamespace

import pytest
import torch

from resnetlab.evaluation.classes import in_order_of
from resnetlab.preprocessing import Preprocessing

ANIMALS = ("airplane", "cat", "Ankle boot")


class Numbered:
    """A backend whose logits are 0, 1, 2, ... for every image."""

    name = "by hand"
    preprocessing = Preprocessing(mean=(0.5,), std=(0.5,), size=8)

    def __init__(self, *classes):
        self.classes = classes

    def logits(self, images):
        return torch.arange(len(self.classes)).float().expand(len(images), -1)


def dataset(*classes):
    return SimpleNamespace(name="zoo", classes=classes)


def order(own, wanted):
    """For each of the data set's classes the number of the network's logit that it gets."""
    backend = in_order_of(dataset(*wanted), Numbered(*own))
    assert backend.preprocessing == Numbered.preprocessing
    (row,) = backend.logits(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).int().tolist()
    return row


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ((1, 2, 0), ("cat", "Ankle boot", "airplane")),
        ((2, 0, 1), ("ankle_boot", "Airplane", "CAT")),
        ((0, 1, 2), ("Air_plane", "cat ", "ANKLE BOOT")),
    ],
)
def test_the_same_names_in_another_order_are_found_whatever_their_spelling(own, wanted):
    assert order(ANIMALS, wanted) == list(own)


@pytest.mark.parametrize(
    "names", [("class 0", "class 1", "class 2"), ("LABEL_0", "LABEL_1", "LABEL_2"), tuple("012")]
)
def test_names_that_only_number_the_classes_tell_nothing(names):
    assert order(names, ANIMALS) == [0, 1, 2]
    assert order(ANIMALS, names) == [0, 1, 2]


def test_numbers_in_another_order_are_names_too():
    assert order(("0", "1", "10", "2"), ("0", "1", "2", "10")) == [0, 1, 3, 2]


def test_other_names_are_a_sentence():
    with pytest.raises(ValueError, match="the network alone has 'dog', zoo alone has 'cat'"):
        order(("airplane", "dog", "Ankle boot"), ANIMALS)
    with pytest.raises(ValueError, match="network has 2 outputs and zoo has 3 classes"):
        order(("airplane", "dog"), ANIMALS)


def test_a_name_that_stands_twice_cannot_be_found_elsewhere():
    """ImageNet has two classes called crane."""
    twice = ("crane", "cat", "crane")
    assert order(twice, twice) == [0, 1, 2]
    with pytest.raises(ValueError, match="different orders, and two share the name 'crane'"):
        order(twice, ("cat", "crane", "crane"))
    with pytest.raises(ValueError, match="different classes: zoo alone has 'dog'; take"):
        order(twice, ("cat", "crane", "dog"))
