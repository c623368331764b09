"""MindSpore's checkpoint files, read without MindSpore.

A .ckpt file is one protobuf message. A tensor of more than 512 MB is cut into consecutive values of
one tag, and with ``crc_check=True`` 17 bytes follow the message: "crc_num" and a CRC-32 in 10
bytes.
"""

from __future__ import annotations

import binascii
import functools
import math
from pathlib import Path
from typing import Any

import torch
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from torch import Tensor

from resnetlab.errors import UserError
from resnetlab.models.architecture import Architecture

_SCHEMA = """
name: "mindspore/ccsrc/utils/checkpoint.proto"
message_type {
  name: "Checkpoint"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".Value" }
}
message_type {
  name: "Value"
  field { name: "tag" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "tensor" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".Tensor" }
}
message_type {
  name: "Tensor"
  field { name: "dims" number: 1 label: LABEL_REPEATED type: TYPE_INT64 }
  field { name: "tensor_type" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "tensor_content" number: 3 label: LABEL_OPTIONAL type: TYPE_BYTES }
}
"""
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
    """Tensors by MindSpore's names.

    Raises:
        UserError: The file is damaged, encrypted or of another kind.
    """
    content = path.read_bytes()
    if content[-17:-10] == b"crc_num":
        content, crc = content[:-17], int.from_bytes(content[-10:])
        if binascii.crc32(content) != crc:
            raise UserError(
                f"{path}: the checksum is wrong, so the file is damaged; copy it again."
            )
    tensors: dict[str, tuple[list[int], str, bytearray]] = {}
    try:
        for value in _message().FromString(content).value:
            tensor = value.tensor
            if not value.tag or not tensor.tensor_type:
                raise ValueError("an entry without a name or a type")
            started = (list(tensor.dims), tensor.tensor_type, bytearray())
            _, _, data = tensors.setdefault(value.tag, started)
            data += tensor.tensor_content
        return {
            tag: _tensor(dims, kind, data)
            for tag, (dims, kind, data) in tensors.items()
            if kind != "str"
        }
    except (ValueError, DecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a MindSpore checkpoint ({error}): it is damaged, encrypted "
            "or of another kind; save it anew with mindspore.save_checkpoint(network, file)."
        ) from error


@functools.cache
def _message() -> Any:
    """The class of a whole file's message."""
    pool = DescriptorPool()
    pool.Add(text_format.Parse(_SCHEMA, FileDescriptorProto()))
    return GetMessageClass(pool.FindMessageTypeByName("Checkpoint"))


def padding_note(architecture: Architecture) -> str:
    """What a MindSpore file does not record, and how that changes the outputs here."""
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


def _tensor(dims: list[int], kind: str, data: bytearray) -> Tensor:
    if kind not in _DTYPES:
        raise ValueError(f"number type {kind}")
    shape = [] if dims == [0] else dims
    if min(shape, default=0) < 0 or len(data) != math.prod(shape) * _DTYPES[kind].itemsize:
        raise ValueError(f"{len(data)} bytes for a {kind} tensor of shape {shape}")
    return torch.frombuffer(data, dtype=_DTYPES[kind]).reshape(shape)
