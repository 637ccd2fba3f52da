"""Servers that `make test-brokers` installs; without them its tests fail rather than skip."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.brokers.rabbitmq import RabbitMQ
from tests.faults.world import World, world


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    with RabbitMQ() as server:
        yield server


@pytest.fixture(scope="session")
async def rabbit_world(rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("rabbit"), {"PIXCRAWLER_BROKER_URL": rabbitmq.url}) as ours:
        yield ours


@pytest.fixture
def ours(rabbit_world: World, rabbitmq: RabbitMQ) -> World:
    """The world with RabbitMQ as its broker, whole."""
    rabbitmq.mend()
    rabbit_world.dismiss_others()
    rabbit_world.mend()
    return rabbit_world
