import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.data.sampling import (
    epoch_batches,
    evaluation_batches,
    shuffled_indices,
    steps_per_epoch,
    stratified_indices,
)
from resnetlab.seeding import fold_in


def test_fold_in_tells_streams_apart():
    seeds = {fold_in(s, *v) for s in (0, 1) for v in ((), (0,), (0, 0), (1, 0), ("a", 0), (10,))}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert fold_in(7, "crop", 3) == 4682861645250146343  # the same on every machine and version


@given(n=st.integers(1, 300), seed=st.integers(0, 2**40), epoch=st.integers(0, 1000))
def test_shuffle_is_a_derived_permutation(n, seed, epoch):
    order = shuffled_indices(n, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(n))
    assert torch.equal(order, shuffled_indices(n, seed=seed, epoch=epoch))


def test_shuffles_differ_between_epochs_and_seeds_and_leave_the_global_generator():
    state = torch.get_rng_state()
    orders = [shuffled_indices(100, seed=s, epoch=e).tolist() for s in (0, 1) for e in (0, 1)]
    assert len(set(map(tuple, orders))) == 4
    assert torch.equal(state, torch.get_rng_state())


@given(
    n=st.integers(4, 200),
    share=st.integers(1, 20),
    world_size=st.integers(1, 4),
    start_step=st.integers(0, 5),
)
def test_ranks_partition_the_same_global_batches(n, share, world_size, start_step):
    batch_size = share * world_size
    options = {"seed": 3, "epoch": 2, "start_step": start_step}
    ranks = [
        list(epoch_batches(n, batch_size, rank=rank, world_size=world_size, **options))
        for rank in range(world_size)
    ]
    steps = max(steps_per_epoch(n, batch_size) - start_step, 0)
    assert [len(rank) for rank in ranks] == [steps] * world_size
    joined = [torch.cat(shares).tolist() for shares in zip(*ranks, strict=True)]
    order = shuffled_indices(n, seed=3, epoch=2).tolist()
    if n >= batch_size:
        first = start_step * batch_size
        last = n - n % batch_size
        assert [i for batch in joined for i in batch] == order[first : max(first, last)]
    elif start_step == 0:  # a tiny set is one smaller batch, the same size on every rank
        assert joined == [order[: n - n % world_size]]
    assert len({len(batch) for rank in ranks for batch in rank}) <= 1


def test_batches_that_cannot_be_shared():
    with pytest.raises(ValueError, match="batch size 5 cannot be shared evenly by 2"):
        next(epoch_batches(100, 5, seed=0, epoch=0, world_size=2))
    with pytest.raises(ValueError, match="batch size 0"):
        next(epoch_batches(100, 0, seed=0, epoch=0))
    with pytest.raises(ValueError, match="1 samples are too few"):
        next(epoch_batches(1, 2, seed=0, epoch=0, world_size=2))


@given(n=st.integers(0, 200), batch_size=st.integers(1, 50), world_size=st.integers(1, 5))
def test_evaluation_counts_every_sample_once(n, batch_size, world_size):
    seen = []
    for rank in range(world_size):
        for batch in evaluation_batches(n, batch_size, rank, world_size):
            assert 0 < len(batch) <= batch_size
            seen += batch.tolist()
    assert seen == list(range(n))


@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=50), share=st.floats(0, 1))
def test_stratified_indices(labels, share):
    labels = torch.tensor(labels)
    n = int(share * len(labels))
    chosen = stratified_indices(labels, n).tolist()
    assert chosen == sorted(set(chosen))
    assert len(chosen) == n
    for label in range(4):  # of each class the earliest
        members = (labels == label).nonzero().flatten().tolist()
        taken = [index for index in chosen if index in members]
        assert taken == members[: len(taken)]
