from .data.datasets import Dataset, dataset_statistics, list_datasets, load_dataset
from .data.sources import fetch
from .evaluation import Evaluation, evaluate, evaluate_model
from .image_plots import plot_predictions, plot_samples, visualize
from .models.architecture import ARCHITECTURES, Architecture, get_architecture, list_models
from .models.resnet import (
    BasicBlock,
    Bottleneck,
    PreBasicBlock,
    PreBottleneck,
    ResNet,
    create_model,
)
from .models.summary import describe_models, summarize
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
    "Dataset",
    "Evaluation",
    "Execution",
    "PreBasicBlock",
    "PreBottleneck",
    "Prediction",
    "Predictor",
    "Recipe",
    "ResNet",
    "Training",
    "create_model",
    "dataset_statistics",
    "describe_models",
    "evaluate",
    "evaluate_model",
    "fetch",
    "get_architecture",
    "get_recipe",
    "list_datasets",
    "list_models",
    "load_dataset",
    "load_model",
    "plot_confusion",
    "plot_curves",
    "plot_predictions",
    "plot_samples",
    "predict",
    "read_metrics",
    "read_recipe",
    "resume",
    "summarize",
    "train",
    "visualize",
]
