"""The metrics of each epoch, as TensorBoard reads them."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]
from tensorboard.summary.writer.record_writer import RecordWriter

from resnetlab.console import Report


class Events:
    """A file of events for each start of a training; nothing is open between two epochs.

    torch's SummaryWriter writes in a thread of its own, which ends with a traceback where the disk
    is full; here that is reported once, and the training goes on.
    """

    def __init__(self, folder: Path, first_step: int, report: Report) -> None:
        # TensorBoard reads files in the order of their names. Two starts may lie within a second,
        # and a clock may be set back.
        stamps = [file.name.split(".")[3] for file in folder.glob("events.out.tfevents.*")]
        latest = max((int(stamp) for stamp in stamps if stamp.isdecimal()), default=0)
        stamp = max(int(time.time()), latest + 1)
        self._file = folder / f"events.out.tfevents.{stamp}.{platform.node()}.{os.getpid()}"
        self._report = report
        # From its first step on, this start replaces what a killed one has told.
        start = SessionLog(status=SessionLog.START)
        self._waiting = [
            Event(file_version="brain.Event:2", wall_time=time.time(), step=first_step),
            Event(session_log=start, wall_time=time.time(), step=first_step),
        ]
        self._fails = False

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Write a line of metrics.jsonl."""
        if self._fails:
            return
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in metrics.items()
            if value is not None and name not in ("epoch", "step")
        ]
        summary = Summary(value=values)
        self._waiting.append(Event(summary=summary, step=metrics["step"], wall_time=time.time()))
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                writer = RecordWriter(file)
                for event in self._waiting:
                    writer.write(event.SerializeToString())
        except OSError as error:
            self._fails = True
            self._report(
                f"TensorBoard is not told of this training any more: cannot write {self._file}: "
                f"{error.strerror or error}"
            )
        self._waiting = []
