"""MindSpore's checkpoint files, read without MindSpore.

A .ckpt file is one protobuf message (mindspore/ccsrc/utils/checkpoint.proto): ``Checkpoint``
repeats ``value`` = 1, each with a ``tag`` = 1 (the name) and a ``tensor`` = 2 of ``dims`` = 1,
``tensor_type`` = 2 and ``tensor_content`` = 3. A tensor of more than 512 MB is cut into consecutive
values of one tag, and with ``crc_check=True`` 17 bytes follow the message: "crc_num" and a CRC-32
in 10 bytes.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from resnetlab.errors import UserError
from resnetlab.models.architecture import Architecture

_DTYPES = {
    "Bool": torch.bool,
    "Int8": torch.int8,
    "UInt8": torch.uint8,
    "Int16": torch.int16,
    "Int32": torch.int32,
    "Int64": torch.int64,
    "Float16": torch.float16,
    "BFloat16": torch.bfloat16,
    "Float32": torch.float32,
    "Float64": torch.float64,
}


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors by MindSpore's names; UserError if the file is damaged, encrypted or another's."""
    content = memoryview(path.read_bytes())
    if content[-17:-10] == b"crc_num":
        content, crc = content[:-17], int.from_bytes(content[-10:])
        if binascii.crc32(content) != crc:
            raise UserError(
                f"{path}: the checksum is wrong, so the file is damaged; copy it again."
            )
    tensors: dict[str, tuple[list[int], str, bytearray]] = {}
    try:
        for number, value in _fields(content):
            if number == 1:
                tag, dims, kind, data = _value(_submessage(value))
                _, _, joined = tensors.setdefault(tag, (dims, kind, bytearray()))
                joined += data
        return {
            tag: _tensor(dims, kind, data)
            for tag, (dims, kind, data) in tensors.items()
            if kind != "str"
        }
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as a MindSpore checkpoint ({error}): it is damaged, encrypted "
            "or of another kind; save it anew with mindspore.save_checkpoint(network, file)."
        ) from error


def padding_note(architecture: Architecture) -> str:
    """What a MindSpore file leaves open, and what that does to the outputs here."""
    stride = architecture.total_stride
    size = 225 if architecture.stem_stride == 4 else 33
    size = size if size % stride == 1 else stride + 1
    return (
        "MindSpore pads convolutions and pooling 'same' unless its program says otherwise, and the "
        "file does not record it: 'same' starts each stride-2 window of an even-sized map one "
        f"pixel later than here. At {stride}k+1 pixels (such as {size}) there is no difference; at "
        "other sizes the outputs of a 'same' network deviate, so evaluate at such a size or "
        "fine-tune. The batch-norm epsilon is not recorded either: 1e-5 is assumed, while "
        "MindSpore's model zoo has 1e-4"
    )


def _value(fields: memoryview) -> tuple[str, list[int], str, memoryview]:
    """Name, dimensions, type and bytes of one Checkpoint.Value."""
    tag, dims, kind, data = "", [], "", memoryview(b"")
    for number, value in _fields(fields):
        if number == 1:
            tag = str(_submessage(value), "utf-8")
        elif number == 2:
            for number_, part in _fields(_submessage(value)):
                if number_ == 1:  # repeated int64, as proto2 writes it or packed
                    dims += [part] if isinstance(part, int) else list(_varints(part))
                elif number_ == 2:
                    kind = str(_submessage(part), "utf-8")
                elif number_ == 3:
                    data = _submessage(part)
    if not tag or not kind:
        raise ValueError("an entry without a name or a type")
    return tag, dims, kind, data


def _tensor(dims: list[int], kind: str, data: bytearray) -> Tensor:
    if kind not in _DTYPES:
        raise ValueError(f"number type {kind}")
    shape = [] if dims == [0] else dims
    if len(data) != math.prod(shape) * _DTYPES[kind].itemsize:
        raise ValueError(f"{len(data)} bytes for a {kind} tensor of shape {shape}")
    return torch.frombuffer(data, dtype=_DTYPES[kind]).reshape(shape)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of a protobuf message: integers, or the bytes of anything longer."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        if key & 7 == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if key & 7 == 2:
            size, position = _varint(message, position)
        elif key & 7 in (1, 5):
            size = 8 if key & 7 == 1 else 4
        else:
            raise ValueError("no protobuf message")
        if position + size > len(message):
            raise ValueError("the file ends too early")
        yield key >> 3, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The number at ``position``, seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
        if shift > 63:
            raise ValueError("no protobuf number")


def _varints(packed: memoryview) -> Iterator[int]:
    position = 0
    while position < len(packed):
        value, position = _varint(packed, position)
        yield value


def _submessage(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where there should be bytes")
    return value
