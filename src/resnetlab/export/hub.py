"""``push``: a network as a repository of the Hugging Face hub, or as a folder of the same files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnetlab.errors import UserError, reason_of
from resnetlab.export.card import make_card
from resnetlab.files import user_path, write_json, write_text
from resnetlab.inference.exported import Exported
from resnetlab.inference.network import load_network
from resnetlab.runs import Run
from resnetlab.version import __version__
from resnetlab.weights.checkpoint import Checkpoint
from resnetlab.weights.hub import WEIGHTS


def push(
    run: Checkpoint | str | Path,
    repository: str,
    *,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Write model.safetensors, config.json and README.md, the model card with its results.

    Args:
        run: A run folder, a Checkpoint, or another source of ``load_checkpoint``.
        repository: user/name on the hub; or a local folder: a path that begins with ".", "/" or
            "~", or that exists.
        private: Whether a new repository is.
        token: Of the hub; by default that of ``hf auth login`` or $HF_TOKEN.

    Returns:
        The folder, or the repository's address.

    Raises:
        UserError: An exported file, a folder that holds something else, or a hub that refuses.
    """
    checkpoint = load_network(run)
    if isinstance(checkpoint, Exported):
        raise UserError(f"{run} is exported already; name its run or its weights.")
    result = _result(run)
    is_folder = repository.startswith((".", "/", "~")) or Path(repository).exists()
    if is_folder:
        folder = user_path(repository)
        others = {path.name for path in folder.glob("*")} if folder.exists() else set()
        if others - {WEIGHTS[0], "config.json", "README.md"}:
            raise UserError(f"{folder} holds other files; name a new folder for `repository`.")
        _write(checkpoint, folder, folder.resolve().name, result)
        return str(folder)
    with tempfile.TemporaryDirectory() as name:
        _write(checkpoint, Path(name), repository, result)
        return _upload(Path(name), repository, private, token)


def _result(run: Checkpoint | str | Path) -> Mapping[str, Any] | None:
    """A run's result on its test set; None where there is none."""
    if isinstance(run, Checkpoint) or not user_path(run).is_dir():
        return None
    return Run(user_path(run)).result


def _write(
    checkpoint: Checkpoint, folder: Path, name: str, result: Mapping[str, Any] | None
) -> None:
    checkpoint.save(folder / WEIGHTS[0])
    config = make_card(checkpoint, input="uint8", class_maps=False, precision="fp32")
    for of_graphs in ("input", "outputs", "precision"):
        del config[of_graphs]
    labels = dict(enumerate(checkpoint.classes))
    write_json(
        folder / "config.json",
        {
            "library": "resnetlab",
            **config,
            "id2label": {str(i): name for i, name in labels.items()},
        },
    )
    write_text(folder / "README.md", str(_model_card(checkpoint, name, result)))


def _model_card(checkpoint: Checkpoint, name: str, result: Mapping[str, Any] | None) -> Any:
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    dataset = checkpoint.dataset or "unknown"
    measured = []
    for key, kind in (("top1", "accuracy"), ("top5", "top_5_accuracy")):
        if result is not None and key in result:
            measured.append(
                EvalResult(
                    task_type="image-classification",
                    dataset_type=dataset,
                    dataset_name=dataset,
                    dataset_split=result.get("split", "test"),
                    metric_type=kind,
                    metric_value=round(result[key] / 100, 6),
                )
            )
    title = name.rsplit("/", 1)[-1]
    data = ModelCardData(
        library_name="resnetlab",
        pipeline_tag="image-classification",
        tags=["resnet"],
        model_name=title,
        eval_results=measured or None,
    )
    source = f"hf-hub:{name}" if "/" in name else name
    lines = [
        f"# {title}",
        "",
        f"{checkpoint.origin}; {len(checkpoint.classes)} classes, trained on {dataset}.",
        "",
        "```",
        "pip install resnetlab",
        f"resnetlab predict {source} cat.jpg",
        "```",
        "",
        "config.json has classes, preprocessing, the temperature that makes its confidence honest "
        f"({checkpoint.temperature:.3f}) and the architecture. Written by resnetlab {__version__}.",
    ]
    if result is not None:
        lines += ["", f"Test: {result['top1']:.2f} % top-1 of {result['n']:,} images."]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n")


def _upload(folder: Path, repository: str, private: bool, token: str | None) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Written by resnetlab push"
        )
    except HFValidationError as error:
        raise UserError(
            f"{repository!r} is no name of a repository; give user/name, or ./NAME for a folder."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{repository} cannot be written: {reason_of(error).rstrip('.')}; see `hf auth login`."
        ) from error
    return str(address)
