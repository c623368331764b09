"""How a network is computed: device, number type, memory layout, kernels, threads."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

import torch
from torch import nn

from resnetlab.compute.machine import default_threads, keep_memory
from resnetlab.errors import UserError
from resnetlab.records import Record, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Execution(Record):
    """One way to compute; the default is plain PyTorch on the CPU.

    Raises:
        UserError: The fields do not go together.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16 and fp16: autocast, with weights, sums and norms in fp32"""
    layout: Literal["contiguous", "channels_last"] = "contiguous"
    mode: Literal["eager", "fused", "winograd", "compile"] = "eager"
    """fused: batch norm, addition and ReLU as one operation (kernels/fused.py); winograd: also 3x3
    convolutions in fewer products (kernels/winograd.py); compile: torch.compile"""
    threads: int = 0
    """of one process on the CPU; 0: ``default_threads()``"""

    def __post_init__(self) -> None:
        self.check_choices()
        if self.precision == "fp16" and self.device == "cpu":
            raise UserError("execution fp16 needs a GPU; take bf16 on the CPU.")
        if self.mode == "winograd" and self.precision != "bf16":
            raise UserError(
                "execution winograd multiplies in bf16; take bf16,channels_last,winograd."
            )
        if self.mode in ("fused", "winograd"):
            if self.device != "cpu":
                raise UserError(f"execution {self.mode} is for the CPU; take compile on a GPU.")
            if self.layout != "channels_last":
                raise UserError(
                    f"execution {self.mode} needs channels_last; "
                    f"take {self.precision},channels_last,{self.mode}."
                )

    def __str__(self) -> str:
        words = [getattr(self, field.name) for field in dataclasses.fields(self)[:-1]]
        return ",".join([*words, *([f"threads={self.threads}"] if self.threads else [])])

    @classmethod
    def parse(cls, text: str) -> Execution:
        """The inverse of ``str``; words may be left out: "bf16,channels_last,threads=2".

        Raises:
            UserError: A word is unknown (the nearest is named) or two contradict each other.
        """
        if text == "plain":
            return PLAIN
        words = {
            word: name for name, hint in get_type_hints(cls).items() for word in get_args(hint)
        }
        values: dict[str, str | int] = {}
        for word in filter(None, text.replace(" ", "").split(",")):
            if word in words:
                if values.setdefault(words[word], word) != word:
                    raise UserError(
                        f"`execution` has two of {words[word]}, {values[words[word]]} and {word}; "
                        "take one."
                    )
            elif word.startswith("threads=") and word[8:].isdigit():
                values["threads"] = int(word[8:])
            elif word in ("auto", "plain"):
                raise UserError(f"`execution` {word} stands alone, without further words.")
            else:
                near = did_you_mean(word, ["auto", "plain", *words, "threads=N"])
                raise UserError(f"`execution` has no word {word!r}{near}")
        return cls(**values)  # type: ignore[arg-type]

    @property
    def memory_format(self) -> torch.memory_format:
        if self.layout == "channels_last":
            return torch.channels_last
        return torch.contiguous_format

    @property
    def dtype(self) -> torch.dtype:
        """The number type in which convolutions and matrix products multiply."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
            self.precision
        ]

    def autocast(self) -> AbstractContextManager:
        """The context in which a forward pass and its loss are computed."""
        return torch.autocast(self.device, self.dtype, enabled=self.precision != "fp32")

    def set_up(self) -> None:
        """Set up this process to compute so: its threads and its memory allocation.

        Once, by what starts the work: a training, a backend of inference, a benchmark.
        """
        if self.threads:
            torch.set_num_threads(self.threads)
        elif default_threads() < torch.get_num_threads():
            torch.set_num_threads(default_threads())
        if self.device == "cpu":
            keep_memory()
        else:
            # The same bits whenever a training is resumed, and fp32 that is fp32.
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    def place(self, model: nn.Module) -> None:
        """Move ``model``, in place, to its device and layout.

        Raises:
            UserError: torch finds no such device.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("execution cuda: torch finds no GPU here; take cpu or auto.")
        model.to(self.device, memory_format=self.memory_format)  # type: ignore[call-overload]


PLAIN = Execution()
