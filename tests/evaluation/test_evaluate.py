import csv
import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from resnetlab.data import catalogue
from resnetlab.data.catalogue import load_dataset
from resnetlab.data.images import normalize
from resnetlab.data.memory import MemoryDataset
from resnetlab.evaluation.evaluate import evaluate, evaluate_model, logit_batches
from resnetlab.evaluation.metrics import wilson
from resnetlab.inference.backends import TorchBackend
from resnetlab.preprocessing import Preprocessing
from resnetlab.runs import Run
from resnetlab.weights.checkpoint import Checkpoint, load_checkpoint

KEYS = {"top1", "top5", "loss", "calibration_error", "n", "per_class", "none_of_these"}
KEYS |= {"top1_interval", "balanced_accuracy", "selective", "reliability", "temperature"}


class Table(nn.Module):
    """Answers the logits that are written into the pixels."""

    def forward(self, x):
        return x[:, 0, 0]


def dataset(logits, labels):
    """Images of one channel whose first row holds uint8 logits."""
    images = torch.zeros(len(labels), 1, logits.size(1), logits.size(1), dtype=torch.uint8)
    images[:, 0, 0] = logits
    return MemoryDataset(
        name="table",
        split="test",
        images=images,
        labels=labels,
        classes=tuple(f"class {i}" for i in range(logits.size(1))),
        preprocessing=Preprocessing(mean=(0.0,), std=(1.0,), size=logits.size(1)),
    )


@given(st.integers(1, 40), st.integers(2, 8), st.integers(0, 1000))
def test_against_a_plain_computation(n, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    # distinct logits in each row, so that no tie is to be broken
    rows = [torch.randperm(256, generator=generator)[:classes] for _ in range(n)]
    logits = torch.stack(rows).to(torch.uint8)
    labels = torch.randint(classes, (n,), generator=generator)
    result = evaluate_model(Table(), dataset(logits, labels))
    right = top5 = 0
    loss = 0.0
    answers = []
    for row, label in zip((logits.double() / 255).tolist(), labels.tolist(), strict=True):
        ranked = sorted(range(classes), key=lambda i: -row[i])
        answers.append(ranked[0])
        right += ranked[0] == label
        top5 += label in ranked[:5]
        loss -= row[label] - math.log(sum(math.exp(x) for x in row))
    assert (result.top1, result.top5, result.n) == (100 * right / n, 100 * top5 / n, n)
    assert result.loss == pytest.approx(loss / n, rel=1e-5)
    pairs = list(zip(labels.tolist(), answers, strict=True))
    for i, row in enumerate(result.per_class()):
        hits, of_class = pairs.count((i, i)), labels.tolist().count(i)
        taken = answers.count(i)
        precision = 100 * hits / taken if taken else 0
        recall = 100 * hits / of_class if of_class else 0
        f1 = 2 * precision * recall / (precision + recall) if hits else 0
        assert row == {
            "class": f"class {i}",
            "precision": pytest.approx(precision),
            "precision_interval": wilson(hits, taken),
            "recall": pytest.approx(recall),
            "recall_interval": wilson(hits, of_class),
            "f1": pytest.approx(f1),
            "n": of_class,
        }
        assert result.confusion[i].tolist() == [pairs.count((i, j)) for j in range(classes)]


@pytest.mark.parametrize("batch_size", [1, 33, 99, 100, 500])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_image_counts_once(samples, batch_size, world_size):
    data = load_dataset("cifar10-sample", "test", data_dir=samples)

    class Position(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :5]

    seen = [
        (logits, labels)
        for rank in range(world_size)
        for logits, labels in logit_batches(
            TorchBackend(model=Position(), classes=data.classes, preprocessing=data.preprocessing),
            data,
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
        )
    ]
    logits = torch.cat([logits for logits, _ in seen])
    expected = normalize(data.images, data.preprocessing).flatten(1)[:, :5]
    torch.testing.assert_close(logits, expected)
    assert torch.equal(torch.cat([labels for _, labels in seen]), data.labels)


def test_json_has_what_is_promised_and_is_json(smoke):
    values = smoke.test.to_dict()
    assert values.keys() >= KEYS
    assert json.loads(json.dumps(values)) == values
    assert sum(row["n"] for row in values["per_class"]) == values["n"] == 100
    assert sum(map(sum, values["confusion"])) == 100


def test_the_result_is_kept_in_the_run(smoke):
    kept = Run(smoke.run).evaluations
    assert kept["test"] == smoke.test.to_dict()
    assert kept["test"]["temperature"] == load_checkpoint(smoke.run).temperature != 1
    result = evaluate(smoke.run, tta="flip")
    assert Run(smoke.run).evaluations["test, flip"] == result.to_dict()
    evaluate(smoke.run, dataset="cifar10-sample", tta="flip-shift")  # named: somebody's data set
    assert "test, flip-shift" not in Run(smoke.run).evaluations


def test_each_image_has_a_row(smoke, tmp_path):
    result = evaluate(smoke.run, per_image=tmp_path / "rows.csv")
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == [str(i) for i in range(100)]
    assert 100 * sum(row["right"] == "1" for row in rows) / 100 == result.top1
    assert sum(int(row["rank"]) <= 5 for row in rows) == result.top5
    nll = -sum(math.log(float(row["true_probability"]) / 100) for row in rows) / 100
    assert nll == pytest.approx(result.tempered_loss, rel=1e-3)
    for row in rows:
        assert (row["true"] == row["predicted"]) == (row["right"] == "1")
        assert float(row["confidence"]) >= float(row["true_probability"])


def test_validation_is_the_validation_split_of_the_training(smoke):
    result = evaluate(smoke.run, split="val")
    best = load_checkpoint(smoke.run).metrics
    assert (result.top1, result.n) == (best["val_top1"], 100)
    assert result.loss == pytest.approx(best["val_loss"], rel=1e-4)


def test_the_number_is_that_of_fp32_unless_asked_otherwise(smoke, monkeypatch):
    monkeypatch.setattr("resnetlab.inference.prepare.fast_precision", lambda device: "bf16")
    result, plain = evaluate(smoke.run), evaluate(smoke.run, execution="plain")
    assert result.loss == smoke.test.loss == pytest.approx(plain.loss, rel=1e-5)
    assert result.top1 == plain.top1
    fast = evaluate(smoke.run, execution="auto")
    assert fast.loss != plain.loss
    assert fast.loss == pytest.approx(plain.loss, rel=0.02)


def test_the_networks_own_normalisation_is_used(smoke):
    one = load_checkpoint(smoke.run)
    other = replace(one, preprocessing=replace(one.preprocessing, mean=(0.0, 0.0, 0.0)))
    assert evaluate(other).loss != evaluate(one).loss == smoke.test.loss


def test_a_data_set_that_does_not_fit_is_a_sentence(smoke, samples):
    with pytest.raises(ValueError, match="takes 3-channel images and fashion-mnist-sample has 1"):
        evaluate(smoke.run, dataset="fashion-mnist-sample", data_dir=samples)
    with pytest.raises(ValueError, match="`split` must be one of val, test, not 'train'"):
        evaluate(smoke.run, split="train")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="no data set 'cifar11'"):
        evaluate(smoke.run, dataset="cifar11", data_dir=samples)


def test_other_classes_are_a_sentence(samples):
    from resnetlab.models.resnet import create_model

    model = create_model("resnet20", num_classes=7)
    one = Checkpoint(
        architecture=model.architecture,
        weights=model.state_dict(),
        classes=tuple("abcdefg"),
        preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, size=32),
    )
    with pytest.raises(ValueError, match="has 7 outputs and cifar10-sample has 10 classes"):
        evaluate(one, dataset="cifar10-sample", data_dir=samples)
    with pytest.raises(ValueError, match="not known what the network was trained on"):
        evaluate(one)


def test_classes_are_compared_by_name(smoke):
    """The network's classes in another order, with its outputs in that order too."""
    one = load_checkpoint(smoke.run)
    order = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    weights = one.weights | {name: one.weights[name][order] for name in ("fc.weight", "fc.bias")}
    names = tuple(one.classes[i].upper() for i in order)
    shuffled = evaluate(replace(one, weights=weights, classes=names))
    assert shuffled.loss == pytest.approx(smoke.test.loss)
    assert shuffled.classes == smoke.test.classes
    assert torch.equal(shuffled.confusion, smoke.test.confusion)

    # names that tell nothing: the outputs count as they stand
    unknown = tuple(f"class {i}" for i in range(10))
    assert evaluate(replace(one, classes=unknown)).to_dict() == smoke.test.to_dict()
    assert evaluate(replace(one, weights=weights, classes=unknown)).loss != smoke.test.loss

    dogs = tuple(f"dog {name}" for name in one.classes)
    with pytest.raises(ValueError, match="network alone has 'dog airplane', cifar10-sample alone"):
        evaluate(replace(one, classes=dogs))


def test_a_data_set_without_a_test_split_is_a_sentence(smoke, monkeypatch):
    entry = catalogue.CATALOGUE["cifar10-sample"]
    train_only = {k: v for k, v in entry.source.digests.items() if k.startswith("train")}
    source = replace(entry.source, digests=train_only)
    monkeypatch.setitem(catalogue.CATALOGUE, "cifar10-sample", replace(entry, source=source))
    with pytest.raises(ValueError, match="cifar10-sample has no test split; take `split` val"):
        evaluate(smoke.run)
    trained_on_all = replace(load_checkpoint(smoke.run), recipe={"val_size": 0})
    with pytest.raises(ValueError, match="no test split; name another `dataset`"):
        evaluate(trained_on_all)


def test_the_split_of_a_foreign_network_is_not_guessed():
    foreign = replace(load_checkpoint("resnet20-cifar10"), recipe={})
    with pytest.raises(ValueError, match="this network's validation split is unknown; take"):
        evaluate(foreign, split="val", dataset="cifar10-sample")


def test_undefined_scores_are_zero():
    logits = torch.tensor([[9, 1, 0], [1, 9, 0]], dtype=torch.uint8)
    result = evaluate_model(Table(), dataset(logits, torch.zeros(2, dtype=torch.int64)))
    assert result.confusion.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert [(row["precision"], row["recall"], row["f1"]) for row in result.per_class()] == [
        (100.0, 50.0, pytest.approx(200 / 3)),
        (0.0, 0.0, 0.0),
        (0.0, 0.0, 0.0),
    ]
