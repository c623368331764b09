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
from .compute.execution import Execution
from .data.cache import clean_pixels
from .data.catalogue import fetch, list_datasets, load_dataset
from .data.dataset import Dataset, dataset_statistics
from .evaluation.calibration import choose_threshold, fit_temperature
from .evaluation.comparing import RunComparison, compare_runs
from .evaluation.evaluate import Evaluation, evaluate, evaluate_model
from .evaluation.robustness import Robustness, evaluate_corruptions
from .export.hub import push
from .export.job import Export, export_network
from .inference.job import Outcome, predict_to_file
from .inference.predictor import Prediction, Predictor, predict
from .models.adaptation import adapt
from .models.architecture import ARCHITECTURES, Architecture, get_architecture, list_models
from .models.preactivation import PreBasicBlock, PreBottleneck
from .models.resnet import BasicBlock, Bottleneck, ResNet, create_model
from .models.summary import describe_models, summarize
from .models.verification import Proof, verify_model, verify_models
from .plots.confusion import plot_confusion
from .plots.curves import plot_curves
from .plots.heatmaps import explain
from .plots.images import plot_predictions, plot_samples, visualize
from .plots.inside import inspect
from .preprocessing import Preprocessing
from .recipes.record import Recipe
from .recipes.table import RECIPES, get_recipe
from .report.page import write_report
from .runs import Run
from .serving.server import serve
from .study.experiment import StudyResult, run_study
from .training.finetune import finetune
from .training.job import Training, resume, train
from .training.overview import RunStatus, list_runs
from .training.rates import RangeTest, lr_find
from .version import __version__
from .weights.checkpoint import Checkpoint, load_checkpoint, load_weights
from .weights.save import export_state_dict, save_weights

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
    "Export",
    "FileRate",
    "NetworkRate",
    "Outcome",
    "PreBasicBlock",
    "PreBottleneck",
    "Prediction",
    "Predictor",
    "Preprocessing",
    "Proof",
    "RangeTest",
    "Recipe",
    "ResNet",
    "Robustness",
    "Run",
    "RunComparison",
    "RunStatus",
    "StudyResult",
    "Training",
    "__version__",
    "adapt",
    "benchmark_data",
    "benchmark_files",
    "benchmark_inference",
    "benchmark_training",
    "choose_threshold",
    "clean_pixels",
    "compare_models",
    "compare_runs",
    "create_model",
    "dataset_statistics",
    "describe_models",
    "evaluate",
    "evaluate_corruptions",
    "evaluate_model",
    "explain",
    "export_network",
    "export_state_dict",
    "fetch",
    "finetune",
    "fit_temperature",
    "get_architecture",
    "get_recipe",
    "inspect",
    "list_datasets",
    "list_models",
    "list_runs",
    "load_checkpoint",
    "load_dataset",
    "load_target",
    "load_weights",
    "lr_find",
    "plot_confusion",
    "plot_curves",
    "plot_predictions",
    "plot_samples",
    "predict",
    "predict_to_file",
    "push",
    "resume",
    "run_study",
    "save_weights",
    "serve",
    "summarize",
    "train",
    "verify_model",
    "verify_models",
    "visualize",
    "write_report",
]
