import numpy as np
import torch
from cleanlab.filter import find_label_issues
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.evaluation.labels import out_of_fold, suspicious_labels


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(0.5, 6))
def test_suspicious_labels_are_cleanlabs(seed, classes, sharpness):
    """Of a network that is right most of the time, and labels of which a tenth are wrong."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(120) % classes
    logits = torch.randn(120, classes, generator=generator, dtype=torch.float64)
    logits[torch.arange(120), truth] += sharpness
    labels = truth.clone()
    labels[:12] = torch.randint(classes, (12,), generator=generator)
    probabilities = logits.softmax(1)
    theirs = find_label_issues(
        labels.numpy(),
        probabilities.numpy(),
        filter_by="confident_learning",
        return_indices_ranked_by="self_confidence",
        min_examples_per_class=0,
        n_jobs=1,
    )
    ours = suspicious_labels(probabilities, labels)
    assert set(ours.tolist()) == set(np.asarray(theirs).tolist())
    own = probabilities[ours, labels[ours]]
    assert torch.equal(own, own.sort().values)


def test_nothing_is_judged_by_what_was_fitted_to_it():
    """Two copies of features that say nothing: one that knew its images would tell the labels."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 200, generator=generator)
    labels = torch.arange(400) % 2
    right = (out_of_fold(inputs, labels, 2).argmax(1) == labels).double().mean()
    assert 0.4 < right < 0.6


def test_wrong_labels_are_found_among_images_that_were_trained_on():
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(300) % 3
    inputs = 5 * torch.eye(3)[truth] + torch.randn(300, 3, generator=generator)
    labels = truth.clone()
    planted = torch.randperm(300, generator=generator)[:15]
    labels[planted] = (labels[planted] + 1) % 3
    found = set(suspicious_labels(out_of_fold(inputs, labels, 3), labels).tolist())
    assert len(found & set(planted.tolist())) >= 12
    assert len(found) <= 18
