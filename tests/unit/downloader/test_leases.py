"""What a worker allows itself while Redis is away."""

import pytest

from downloader.leases import Breaker, Limit, LoneLeases, Want


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lone(clock: Clock) -> LoneLeases:
    return LoneLeases(Limit(connections=8, spacing_seconds=0.1), Breaker(failures=3, seconds=60), clock)


def want(
    *, starts: int = 100, spacing: float = 0.1, failures: int = 0, succeeded: bool = False, retry_after: float = 0
) -> Want:
    return Want(
        host="example.com",
        starts=starts,
        connections=starts,
        in_use=0,
        limit=Limit(connections=8, spacing_seconds=spacing),
        failures=failures,
        succeeded=succeeded,
        retry_after_seconds=retry_after,
    )


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        (0.1, 0.8),  # an eighth of ten a second
        (1.0, 8.0),
        (0.0, 0.8),  # no limit at all becomes an eighth of the default
    ],
)
def test_a_host_sees_one_connection_and_an_eighth_of_the_rate(clock: Clock, spacing: float, expected: float) -> None:
    (lease,) = lone(clock).lease([want(spacing=spacing)])

    assert lease.connections == 1
    assert lease.spacing_seconds == pytest.approx(expected)
    assert lease.starts <= 5 / expected + 1


def test_a_second_lease_continues_where_the_first_ended(clock: Clock) -> None:
    leases = lone(clock)

    (first,) = leases.lease([want()])
    (second,) = leases.lease([want()])

    assert first.starts == 7
    assert second.starts == 0
    assert second.first_start_in == pytest.approx(5.6)


def test_the_breaker_opens_after_failures_in_a_row_and_closes_on_trial(clock: Clock) -> None:
    leases = lone(clock)
    leases.lease([want(failures=2)])
    leases.lease([want(failures=2, succeeded=True)])
    (still_closed,) = leases.lease([want()])

    (opened,) = leases.lease([want(failures=1)])
    clock.now += 61
    (on_trial,) = leases.lease([want()])
    (open_again,) = leases.lease([want(failures=1)])

    assert still_closed.open_seconds == 0
    assert (opened.open_seconds, opened.starts) == (60, 0)
    assert on_trial.open_seconds == 0
    assert on_trial.starts > 0
    assert open_again.open_seconds == 60


def test_a_pause_that_the_host_asked_for_is_kept(clock: Clock) -> None:
    leases = lone(clock)

    (paused,) = leases.lease([want(retry_after=20)])
    clock.now += 21
    (afterwards,) = leases.lease([want()])

    assert (paused.wait_seconds, paused.starts) == (20, 0)
    assert afterwards.starts > 0
