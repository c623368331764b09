"""The batcher: common batches, limits, and failures that stay where they are."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from resnetlab.serving.batching import Batcher
from resnetlab.serving.engine import Engine
from resnetlab.serving.metrics import Metrics
from resnetlab.serving.refused import Refused

from .conftest import FakeNetwork


@asynccontextmanager
async def running(network, *, capacity=100, wait=0.2):
    engine = Engine(network)
    network.batches.clear()  # of the warm-up
    batcher = Batcher(engine, Metrics(), capacity=capacity, wait=wait)
    try:
        yield batcher
    finally:
        await batcher.close()


async def ask(batcher, *values):
    with batcher.admit(len(values)):
        answers = [batcher.answer(bytes([value]), heat_map=False) for value in values]
        return await asyncio.gather(*answers, return_exceptions=True)


def test_each_client_gets_its_own_answer_from_common_batches():
    async def check():
        network = FakeNetwork()
        async with running(network) as batcher:
            answers = await asyncio.gather(*(ask(batcher, value) for value in range(50)))
        for value, (answer,) in enumerate(answers):
            bright, dark = answer.probabilities
            assert bright / dark == pytest.approx(2.718281828 ** (value / 100), rel=1e-6)
        assert sum(network.batches) == 50
        assert max(network.batches) == network.batch_size
        assert len(network.batches) < 25

    asyncio.run(check())


def test_one_client_alone_does_not_wait():
    async def check():
        async with running(FakeNetwork(), wait=30) as batcher:
            began = time.monotonic()
            await ask(batcher, 1)
            assert time.monotonic() - began < 15

    asyncio.run(check())


def test_a_full_queue_refuses_and_says_when_to_come_again():
    async def check():
        async with running(FakeNetwork(seconds=0.1), capacity=3) as batcher:
            waiting = asyncio.create_task(ask(batcher, 1, 2, 3))
            await asyncio.sleep(0)
            with pytest.raises(Refused) as refused:
                await ask(batcher, 4)
            assert refused.value.status == 429
            assert int(refused.value.headers["retry-after"]) >= 1
            assert len(await waiting) == 3
            assert len(await ask(batcher, 5)) == 1  # there is room again

    asyncio.run(check())


def test_whoever_gives_up_is_left_out():
    async def check():
        network = FakeNetwork(seconds=0.3)
        async with running(network) as batcher:
            first = asyncio.create_task(ask(batcher, 1))
            while not network.batches:
                await asyncio.sleep(0.01)
            second = asyncio.create_task(ask(batcher, 2))
            third = asyncio.create_task(ask(batcher, 3))
            await asyncio.sleep(0.1)
            second.cancel()
            await asyncio.gather(first, third)
        assert network.batches == [1, 1]

    asyncio.run(check())


def test_a_batch_that_fails_does_not_end_the_service():
    async def check():
        async with running(FakeNetwork()) as batcher:
            (failed,) = await ask(batcher, 255)
            assert str(failed) == "planted"
            (answer,) = await ask(batcher, 1)
            assert answer.probabilities is not None
            assert not batcher.stuck(1)

    asyncio.run(check())


def test_a_batch_that_hangs_is_noticed():
    async def check():
        async with running(FakeNetwork(seconds=0.5)) as batcher:
            task = asyncio.create_task(ask(batcher, 1))
            await asyncio.sleep(0.3)
            assert batcher.stuck(0.1)
            assert not batcher.stuck(10)
            await task
            assert not batcher.stuck(0.1)

    asyncio.run(check())
