"""A data set whose images all lie in one tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from resnetlab.data.crops import Crop, everything, part_of
from resnetlab.data.images import arrange
from resnetlab.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class MemoryDataset:
    """A split of a data set in memory; see ``Dataset``."""

    name: str
    split: str
    images: Tensor
    """uint8 (n, channels, height, width), stored in channels_last order"""
    labels: Tensor
    """int64 (n,)"""
    classes: tuple[str, ...]
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        return True

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels of some samples: uint8 (n, channels, size, size), int64 (n,).

        index_select on pixels-last storage copies whole images: 25 times faster than
        images[indices].
        """
        pixels = self.images.permute(0, 2, 3, 1).index_select(0, indices)
        images = arrange(pixels.permute(0, 3, 1, 2), self.preprocessing)
        return images, self.labels.index_select(0, indices)

    def uncropped(self, index: int, size: int, crop: Crop = everything) -> Tensor:
        """A view of an image as it is stored, of whatever size, or of a part of it."""
        return part_of(self.images[index].permute(1, 2, 0), crop)

    def prepared(self, preprocessing: Preprocessing) -> MemoryDataset:
        return replace(self, preprocessing=preprocessing)
