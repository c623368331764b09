from .benchmark import (
    DataRate,
    FileRate,
    NetworkRate,
    benchmark_data,
    benchmark_files,
    benchmark_inference,
    benchmark_training,
)
from .comparison import Comparison, compare_models, load_target
from .data.datasets import Dataset, dataset_statistics, list_datasets, load_dataset
from .data.sources import fetch
from .evaluation import Evaluation, evaluate, evaluate_model
from .image_plots import plot_predictions, plot_samples, visualize
from .models.adaptation import adapt
from .models.architecture import ARCHITECTURES, Architecture, get_architecture, list_models
from .models.pretrained import (
    Weights,
    export_state_dict,
    load_weights,
    read_weights,
    save_weights,
)
from .models.resnet import (
    BasicBlock,
    Bottleneck,
    PreBasicBlock,
    PreBottleneck,
    ResNet,
    create_model,
)
from .models.summary import describe_models, summarize
from .models.verification import Proof, verify_model, verify_models
from .plots import plot_confusion, plot_curves
from .prediction import Prediction, Predictor, predict
from .runs import Checkpoint, load_model, read_metrics, read_recipe
from .training.execution import Execution
from .training.loop import Training, resume, train
from .training.recipe import RECIPES, Recipe, get_recipe

__all__ = [
    "ARCHITECTURES",
    "RECIPES",
    "Architecture",
    "BasicBlock",
    "Bottleneck",
    "Checkpoint",
    "Comparison",
    "DataRate",
    "Dataset",
    "Evaluation",
    "Execution",
    "FileRate",
    "NetworkRate",
    "PreBasicBlock",
    "PreBottleneck",
    "Prediction",
    "Predictor",
    "Proof",
    "Recipe",
    "ResNet",
    "Training",
    "Weights",
    "adapt",
    "benchmark_data",
    "benchmark_files",
    "benchmark_inference",
    "benchmark_training",
    "compare_models",
    "create_model",
    "dataset_statistics",
    "describe_models",
    "evaluate",
    "evaluate_model",
    "export_state_dict",
    "fetch",
    "get_architecture",
    "get_recipe",
    "list_datasets",
    "list_models",
    "load_dataset",
    "load_model",
    "load_target",
    "load_weights",
    "plot_confusion",
    "plot_curves",
    "plot_predictions",
    "plot_samples",
    "predict",
    "read_metrics",
    "read_recipe",
    "read_weights",
    "resume",
    "save_weights",
    "summarize",
    "train",
    "verify_model",
    "verify_models",
    "visualize",
]
