"""The list of mechanisms speaks of the code as it is; `make mechanisms` takes each away."""

import pytest

from tests.faults.mechanisms import MECHANISMS, PAGE, ROOT, Mechanism


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda one: one.name.replace(" ", "-"))
def test_a_mechanism_stands_where_the_list_says(mechanism: Mechanism) -> None:
    assert (ROOT / mechanism.file).read_text().count(mechanism.text) == 1
    assert [name for name in mechanism.tests if not (ROOT / name.split("::")[0]).exists()] == []


def test_the_page_tells_of_every_mechanism() -> None:
    page = PAGE.read_text()

    assert [one.name for one in MECHANISMS if f"| {one.name} |" not in page] == []
    assert "**none**" not in page
