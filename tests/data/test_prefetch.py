import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.data.catalogue import load_dataset
from resnetlab.data.prefetch import in_threads, load_batches, one_ahead


@given(st.lists(st.lists(st.integers(), max_size=4), max_size=6), st.integers(1, 4))
def test_results_come_in_order(batches, threads):
    doubled = one_ahead(lambda x: 2 * x, batches, threads=threads)
    assert list(doubled) == [[2 * x for x in batch] for batch in batches]


def test_the_next_batch_is_computed_meanwhile_and_no_further_one():
    taken, done = [], [threading.Event() for _ in range(5)]

    def source():
        for number in range(5):
            taken.append(number)
            yield [number]

    def work(number):
        done[number].set()
        return number

    results = one_ahead(work, source())
    for number in range(5):
        assert next(results) == [number]
        ahead = min(number + 1, 4)
        assert done[ahead].wait(10)  # while this thread has asked for nothing
        assert taken == list(range(ahead + 1))


def test_the_items_of_a_batch_share_the_threads():
    both = threading.Barrier(2)
    assert next(one_ahead(lambda _: both.wait(10) < 2, [[1, 2]], threads=2)) == [True, True]


def test_an_exception_comes_in_its_place():
    results = one_ahead(lambda x: 1 // x, [[1], [0], [1]])
    assert next(results) == [1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_closing_early_ends_the_threads_and_drops_what_was_not_begun():
    before, started, go = threading.active_count(), [], threading.Event()

    def work(number):
        started.append(number)
        if number > 1:
            go.wait(10)
        return number

    results = one_ahead(work, [[1], [2, 3, 4]])
    assert next(results) == [1]
    while len(started) < 2:  # its single thread is now busy with 2
        time.sleep(0.001)
    threading.Timer(0.05, go.set).start()
    results.close()
    assert started == [1, 2]
    while threading.active_count() > before:  # the timer's own thread
        time.sleep(0.001)


class Slow:
    """A data set whose batches take time to load."""

    in_memory = False

    def __init__(self, whole):
        self.whole = whole
        self.threads = set()

    def batch(self, indices):
        self.threads.add(threading.current_thread())
        return self.whole.batch(indices)


def test_batches_are_loaded_ahead_only_where_that_takes_time(samples):
    whole = load_dataset("cifar10-sample", "test", data_dir=samples)
    slow = Slow(whole)
    indices = list(torch.arange(100).split(30))
    for (i, (images, labels)), (j, (same, same_labels)) in zip(
        load_batches(whole, indices), load_batches(slow, indices), strict=True
    ):
        assert torch.equal(i, j)
        assert torch.equal(images, same)
        assert torch.equal(labels, same_labels)
        assert torch.equal(images, whole.images[i])
    assert threading.current_thread() not in slow.threads


@given(st.lists(st.integers(), max_size=40))
def test_results_of_threads_have_the_order_of_their_items(items):
    def doubled(item):
        time.sleep(item % 3 / 10_000)
        return 2 * item

    assert in_threads(doubled, items) == [2 * item for item in items]


@pytest.mark.parametrize("bad", [0, 1])
def test_after_an_exception_no_further_item_is_begun(use_threads, bad):
    use_threads(2)
    begun, told = [], threading.Event()

    def work(item):
        begun.append(item)
        if item == bad:
            raise IndexError(f"item {item}")
        assert told.wait(10)  # until the caller has heard of it

    waiting = threading.Timer(0.2, told.set)
    waiting.start()
    with pytest.raises(IndexError, match=f"item {bad}"):
        in_threads(work, range(100))
    waiting.join()
    assert len(begun) <= 3


def test_few_items_leave_the_number_of_threads_alone(use_threads):
    use_threads(3)
    assert in_threads(lambda x: -x, [1, 2]) == [-1, -2]
    assert torch.get_num_threads() == 3


def test_threads_that_share_a_batch_compute_alone(use_threads):
    """Two that computed with two threads each would be four on two cores."""
    use_threads(3)
    assert in_threads(lambda _: torch.get_num_threads(), range(30)) == [1] * 30
    assert torch.get_num_threads() == 3
    found = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [3]
