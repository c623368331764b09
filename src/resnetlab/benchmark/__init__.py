"""Images a second: of training steps, of inference, of the data; beside what the machine can do.

Every network is measured in a process of its own, so that its peak of memory, its threads and its
allocator settings are its own. Pixels are random: no step is faster or slower for it.
"""

from resnetlab.benchmark.data import benchmark_data
from resnetlab.benchmark.machine import describe, machine, measure_limits
from resnetlab.benchmark.measure import (
    fitting_execution,
    measure_files,
    measure_inference,
    measure_training,
    training_steps,
)
from resnetlab.benchmark.networks import (
    benchmark_files,
    benchmark_inference,
    benchmark_training,
)
from resnetlab.benchmark.records import DataRate, FileRate, NetworkRate, Rate, Row, table
from resnetlab.benchmark.samples import random_dataset, random_file, random_predictor

__all__ = [
    "DataRate",
    "FileRate",
    "NetworkRate",
    "Rate",
    "Row",
    "benchmark_data",
    "benchmark_files",
    "benchmark_inference",
    "benchmark_training",
    "describe",
    "fitting_execution",
    "machine",
    "measure_files",
    "measure_inference",
    "measure_limits",
    "measure_training",
    "random_dataset",
    "random_file",
    "random_predictor",
    "table",
    "training_steps",
]
