"""The sections of a recipe. Each field is declared once, with its help and its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from resnetlab.errors import UserError
from resnetlab.models.architecture import get_architecture
from resnetlab.records import Limit, Record

POSITIVE, NOT_NEGATIVE = Limit(above=0), Limit(at_least=0)
SHARE = Limit(at_least=0, below=1)


class Section(Record):
    """Fields of a recipe that belong together. Raises UserError for a value that cannot be."""

    quote = "`"

    def __post_init__(self) -> None:
        self.check()
        for section in type(self).__mro__:
            if "check_together" in vars(section):
                section.check_together(self)

    def check_together(self) -> None:
        """Raise UserError for values that do not fit each other."""


@dataclass(frozen=True, kw_only=True)
class General(Section):
    """What the run is called, what makes it repeatable, how it is computed and tested."""

    name: str = "custom"
    """name of the run"""
    seed: Annotated[int, NOT_NEGATIVE] = 0
    """seed of the initial weights, the shuffling and the augmentation"""
    execution: str = "auto"
    """auto: measure what is fastest here;
    plain: fp32;
    or words such as bf16,channels_last"""
    tta: Literal["none", "flip", "flip-shift"] = "none"
    """test-time augmentation, for a second result on the test set;
    flip: average the predictions for an image and its mirror image;
    flip-shift: and for both shifted by a pixel"""
    checkpoint_minutes: Annotated[float, NOT_NEGATIVE] = 5.0
    """minutes between two checkpoints within an epoch; 0: only at the end of each epoch"""
    on_nan: Literal["stop", "rollback"] = "stop"
    """when the loss is no longer finite; stop: end there and say what helps;
    rollback: back to the last checkpoint, with half the learning rate, at most three times"""


@dataclass(frozen=True, kw_only=True)
class Network(Section):
    """What is trained, and from where it starts."""

    model: str = "resnet20"
    """network, a name from `resnetlab models`"""
    model_overrides: Mapping[str, int | str] = field(default_factory=dict)
    """fields of the architecture to change, e.g. `stem cifar depths 2,2,2,2`"""
    pretrained: str | None = None
    """initial weights: a run folder, a file, a torchvision weight or a hub name; default: none"""
    load: Literal["all", "matching"] = "all"
    """of the initial weights; all: every tensor but the classifier's must fit;
    matching: take those that fit, such as ImageNet weights for another stem"""
    zero_init: Literal["none", "residual"] = "none"
    """residual: each residual branch starts at zero (arXiv:1706.02677)"""

    def check_together(self) -> None:
        get_architecture(self.model, **self.model_overrides)


@dataclass(frozen=True, kw_only=True)
class Data(Section):
    """The images, and how they are split and normalised."""

    dataset: str = "cifar10"
    """cifar10, cifar100, cifar100-coarse, mnist, fashion-mnist, torchvision:NAME, hf:NAME, or the
    path of your own images: a folder with a folder for each class, or with train, val and test of
    such folders; a table (.csv, .tsv, .jsonl) with the columns path, label, split, group; tar
    shards such as train-{000..099}.tar"""
    data_dir: str | None = None
    """folder that already holds the data set, in torchvision's layout; of a table, the folder that
    its paths are relative to"""
    val_size: Annotated[float | None, NOT_NEGATIVE] = None
    """validation images, split off the training set to select best.pt where it comes without any;
    a number or, below 1, a share of it;
    0: train on all images and keep the last weights;
    default: 5,000, of fewer than 50,000 images a tenth"""
    test_size: Annotated[float | None, NOT_NEGATIVE] = None
    """test images, likewise split off your own images where these come without any splits"""
    split_file: str | None = None
    """which of your own images is for what: a table with the columns path and split, such as the
    split.csv of a run"""
    near_duplicates: Literal["together", "ignore"] = "together"
    """together: of your own images, those that look alike stay on one side of a split;
    ignore: they are not looked for, which saves looking at each image once"""
    on_bad_image: Literal["error", "skip"] = "error"
    """error: refuse your own images if one cannot be read;
    skip: leave up to 1 % of them out, and list them in the run"""
    split_seed: Annotated[int, NOT_NEGATIVE] = 0
    """seed of these splits; of its own, so that runs of several seeds share the split"""
    train_size: Annotated[int | None, POSITIVE] = None
    """training images to use, equally many of each class, drawn with split_seed;
    default: all that the validation split leaves"""
    mean: tuple[float, ...] | None = None
    """mean of the pixels, from 0 to 1, a number for each channel;
    default: that of the pretrained weights or of the data"""
    std: Annotated[tuple[float, ...] | None, POSITIVE] = None
    """standard deviation of the pixels, a number for each channel; default: likewise"""
    image_size: Annotated[int | None, POSITIVE] = None
    """side in pixels that images are resized to; otherwise their own"""
    cache: str | None = None
    """where decoded images are kept: a folder, memory, or none (decode them in every epoch);
    default: the cache of data sets, where there is room"""

    def check_together(self) -> None:
        for name in ("val_size", "test_size"):
            size = getattr(self, name) or 0
            if size >= 1 and size % 1:
                raise UserError(
                    f"`{name}` must be a whole number of images, or below 1 a share of them, not "
                    f"{size}."
                )
        if len(self.mean or ()) != len(self.std or ()):
            raise UserError("`mean` and `std` go together: give each a number for every channel.")


@dataclass(frozen=True, kw_only=True)
class Schedule(Section):
    """How long the training takes, and how learning rate and image size change in it."""

    epochs: Annotated[float, POSITIVE] = 16
    """passes over the training set; a fraction ends within an epoch"""
    schedule: Literal["step", "cosine", "one-cycle"] = "one-cycle"
    """learning rate after the warm-up;
    step: divided by 10 at each milestone;
    cosine: to zero along a cosine;
    one-cycle: linearly to zero"""
    milestones: Annotated[tuple[float, ...], Limit(above=0, below=1)] = (0.5, 0.75)
    """when schedule step divides the rate, as shares of the training"""
    warmup_share: Annotated[float, SHARE] = 0.0
    """share of the training, from its start, in which the learning rate rises to its peak"""
    warmup_epochs: Annotated[float | None, NOT_NEGATIVE] = None
    """the same in epochs; if given, it replaces the share"""
    warmup: Literal["linear", "constant"] = "linear"
    """linear: rise from a tenth of the peak;
    constant: stay at a tenth (the paper's resnet110)"""
    early_size: Annotated[int | None, POSITIVE] = None
    """side in pixels of the images early in the training, which makes those steps cheaper;
    never less than the network can take"""
    early_share: Annotated[float, SHARE] = 0.0
    """share of the training, from its start, with images of that size"""

    @property
    def warmup_length(self) -> float:
        """Epochs that the warm-up takes, however it was given."""
        if self.warmup_epochs is None:
            return self.warmup_share * self.epochs
        return self.warmup_epochs

    def check_together(self) -> None:
        if self.warmup_length >= self.epochs:
            raise UserError(
                f"`warmup_epochs` {self.warmup_length:g} must be less than `epochs` "
                f"{self.epochs:g}; change one of them."
            )


@dataclass(frozen=True, kw_only=True)
class Optimizer(Section):
    """The batch, the loss, and the step that follows from them."""

    batch_size: Annotated[int, POSITIVE] = 128
    """images in a step, over all processes and accumulated parts"""
    accumulate: Annotated[int, POSITIVE] = 1
    """parts that a batch is computed in, one after the other, to save memory"""
    gradient_exchange: Literal["fp32", "bf16"] = "fp32"
    """number type in which several processes exchange gradients; bf16: half the bytes"""
    sync_batchnorm: Literal["off", "on"] = "off"
    """on: of several processes, batch norm sees the images of all (execution eager)"""
    label_smoothing: Annotated[float, SHARE] = 0.0
    """share of the target that is spread evenly over all classes"""
    optimizer: Literal["sgd", "nesterov", "muon"] = "nesterov"
    """sgd: with momentum, as in the paper;
    nesterov: with Nesterov momentum;
    muon: Muon for the convolutions, nesterov for the rest"""
    lr: Annotated[float, POSITIVE] = 0.1
    """peak learning rate; with muon: of the classifier, the norms and the biases"""
    norm_lr: Annotated[float | None, POSITIVE] = None
    """peak learning rate of the norms and the biases; otherwise lr"""
    momentum: Annotated[float, SHARE] = 0.9
    """momentum of sgd and nesterov"""
    muon_lr: Annotated[float, POSITIVE] = 0.05
    """peak learning rate of Muon: about the angle in radians by which a step turns weights"""
    muon_momentum: Annotated[float, SHARE] = 0.6
    """momentum of Muon"""
    weight_decay: Annotated[float, NOT_NEGATIVE] = 5e-4
    """L2 penalty"""
    weight_decay_on: Literal["weights", "all"] = "weights"
    """weights: the classifier and the convolutions (not Muon's, whose norm is fixed);
    all: norms and biases too, as in the paper"""
    clip_norm: Annotated[float, NOT_NEGATIVE] = 0.0
    """largest norm of the gradient; 0: no clipping"""
    ema_decay: Annotated[float, SHARE] = 0.0
    """decay per step of averaged weights, which are evaluated and saved; 0: no average"""

    def check_together(self) -> None:
        if self.optimizer != "sgd" and not self.momentum:
            raise UserError(
                f"`optimizer` {self.optimizer} needs a `momentum`; take sgd to train without one."
            )
        if self.batch_size % self.accumulate:
            raise UserError(
                f"`batch_size` {self.batch_size} cannot be computed in {self.accumulate} equal "
                "parts; choose `accumulate` so that it divides it."
            )


@dataclass(frozen=True, kw_only=True)
class Augmentation(Section):
    """How training images are varied; ``data/augment.py`` does it."""

    crop_padding: Annotated[int, NOT_NEGATIVE] = 4
    """pixels added on each side before a random crop of the original size; 0: no crop;
    not used with resized_crop"""
    crop_mode: Literal["zero", "reflect"] = "zero"
    """what those pixels are: zero, or a reflection of the image"""
    flip: Literal["none", "random", "alternating"] = "random"
    """random: mirror half of the images, drawn anew in each epoch;
    alternating: mirror each image in every second epoch (arXiv:2404.00498)"""
    resized_crop: Annotated[float, SHARE] = 0.0
    """for photographs: crop a random part and resize it; the smallest share of the image's area
    that it may be, e.g. 0.35 (ImageNet's usual: 0.08); 0: none"""
    color_jitter: Annotated[float, SHARE] = 0.0
    """vary brightness, contrast and saturation by up to this share, e.g. 0.4; 0: none"""
    auto_augment: Literal["none", "rand", "trivial"] = "none"
    """rand: two random operations of medium strength (RandAugment, arXiv:1909.13719);
    trivial: one of any strength (TrivialAugment, arXiv:2103.10158)"""
    random_erasing: Annotated[float, SHARE] = 0.0
    """probability that a random rectangle is blanked out (arXiv:1708.04896), e.g. 0.25; 0: none"""
    cutout: Annotated[int, NOT_NEGATIVE] = 0
    """side in pixels of a square that is blanked out; 0: none"""
    mixup: Annotated[float, NOT_NEGATIVE] = 0.0
    """alpha of mixup (arXiv:1710.09412); 0: none"""
    cutmix: Annotated[float, NOT_NEGATIVE] = 0.0
    """alpha of CutMix (arXiv:1905.04899); 0: none"""


@dataclass(frozen=True, kw_only=True)
class Tuning(Section):
    """How a network that is trained already is adapted; ``training/tuning.py`` does it."""

    freeze: str = "none"
    """what keeps its initial weights and statistics;
    none: nothing;
    stages=N: the stem and the first N stages;
    backbone: all but the classifier, which is fitted at once, so that `epochs` do not count"""
    head: Literal["random", "fitted"] = "random"
    """the classifier before the first step;
    random: fresh;
    fitted: on the features of the untouched network (arXiv:2202.10054)"""
    head_views: Annotated[int, POSITIVE] = 1
    """of each image, how many the classifier is fitted on: as it is, and augmented at random"""
    head_lr: Annotated[float | None, POSITIVE] = None
    """peak learning rate of the classifier; otherwise lr"""
    layer_decay: Annotated[float, Limit(above=0, at_most=1)] = 1.0
    """factor by which the learning rate falls from each block to the one before it"""
    unfreeze_share: Annotated[float, SHARE] = 0.0
    """share of the training, from its start, in which only the later half of the stages is
    trained"""
    norm: Literal["adapted", "frozen"] = "adapted"
    """batch norm's statistics;
    adapted: of each batch;
    frozen: those of the initial weights"""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: an error counts the more, the rarer its class"""
    balanced: Literal["none", "sampling"] = "none"
    """sampling: every epoch has equally many images of each class, those of rare ones repeated"""
    patience: Annotated[float, NOT_NEGATIVE] = 0
    """epochs without a better validation result after which the training ends, those at its start
    with frozen stages or small images not counted; 0: it goes on"""

    @property
    def frozen_stages(self) -> int:
        """Of ``stages=N`` the number, otherwise 0."""
        return int(self.freeze.removeprefix("stages=")) if "=" in self.freeze else 0

    @property
    def freezes_layers(self) -> bool:
        """Whether some layers have no gradients in some steps."""
        return self.frozen_stages > 0 or self.unfreeze_share > 0

    @property
    def fits_head(self) -> bool:
        """Whether the classifier is fitted before the first step."""
        return self.head == "fitted" or self.freeze == "backbone"

    def check_together(self) -> None:
        if self.freeze not in ("none", "backbone") and not re.fullmatch(
            "stages=[1-9]", self.freeze
        ):
            raise UserError(
                f"`freeze` must be none, backbone or stages=N, such as stages=2, not "
                f"{self.freeze!r}."
            )
        if "none" not in (self.class_weights, self.balanced):
            raise UserError(
                "`class_weights` balanced and `balanced` sampling would count rare classes twice; "
                "take one of them."
            )
