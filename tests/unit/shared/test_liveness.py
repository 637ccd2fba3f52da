"""When a worker counts as dead: its loop stands still or asks for nothing, while the broker answers others."""

from dataclasses import dataclass

import pytest

from shared.liveness import Pulse


@dataclass
class World:
    now: float = 1000.0
    broker_is_there: bool = True

    def pulse(self) -> Pulse:
        return Pulse(longest_silence_seconds=60, broker_answers=lambda: self.broker_is_there, clock=lambda: self.now)


@pytest.fixture
def world() -> World:
    return World()


def test_a_worker_that_has_just_started_is_alive(world: World) -> None:
    pulse = world.pulse()

    world.now += 59

    assert pulse.trouble() is None


def test_a_loop_that_stands_still_is_told(world: World) -> None:
    pulse = world.pulse()
    pulse.note(asked=True)

    world.now += 61

    assert pulse.trouble() == "the main loop has not turned for 61 s"


def test_a_loop_that_turns_without_asking_is_told(world: World) -> None:
    pulse = world.pulse()

    for _ in range(61):
        world.now += 1
        pulse.note(asked=False)

    assert pulse.trouble() == "the broker has not been asked for messages for 61 s"


def test_a_loop_that_asks_stays_alive(world: World) -> None:
    pulse = world.pulse()

    for _ in range(600):
        world.now += 1
        pulse.note(asked=True)
        assert pulse.trouble() is None


def test_silence_is_excused_while_the_broker_answers_nobody(world: World) -> None:
    pulse = world.pulse()
    world.broker_is_there = False

    world.now += 3600

    assert pulse.trouble() is None


def test_a_worker_has_its_time_again_once_the_broker_is_back(world: World) -> None:
    pulse = world.pulse()
    world.broker_is_there = False
    world.now += 3600
    assert pulse.trouble() is None

    world.broker_is_there = True
    world.now += 59
    soon = pulse.trouble()
    world.now += 2
    late = pulse.trouble()

    assert soon is None
    assert late == "the main loop has not turned for 3661 s"


def test_a_worker_that_came_back_is_alive(world: World) -> None:
    pulse = world.pulse()
    world.now += 100
    assert pulse.trouble() is not None

    pulse.note(asked=True)

    assert pulse.trouble() is None
