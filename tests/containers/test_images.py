"""What is in the images, and what is not."""

import json

import pytest

from tests.architecture.tree import ROOT, SERVICES
from tests.containers.deployment import BUILD_LIMIT_SECONDS, TAG, docker

pytestmark = [pytest.mark.full, pytest.mark.timeout(900), pytest.mark.usefixtures("system")]

_IMAGES = ("migration", *SERVICES)
#: Prints what lies in the image's folder of code, compilers and what pip left behind.
_LOOK = """
ls /app
command -v gcc cc g++ clang make ld as
find / -xdev -type d -path '*/.cache/pip'
true
"""


@pytest.mark.parametrize("image", _IMAGES)
def test_an_image_holds_one_service_and_nothing_to_build_with(image: str) -> None:
    found = docker("run", "--rm", "--user=0", "--network=none", "--entrypoint=sh", _named(image), "-c", _LOOK)

    ours = {"shared"} if image == "migration" else {"shared", image}
    names = set(found.split())
    assert {name for name in names if not name.startswith("pixcrawler-")} == ours | {"requirements"}


@pytest.mark.parametrize("image", _IMAGES)
def test_an_image_starts_as_nobody_and_without_a_shell(image: str) -> None:
    config = json.loads(docker("image", "inspect", _named(image)))[0]["Config"]

    assert config["User"] == "10001:10001"
    assert not config["Entrypoint"]
    assert config["Cmd"][:2] == ["python", "-m"]


def test_the_services_share_the_layers_of_the_common_wheels() -> None:
    layers = [json.loads(docker("image", "inspect", _named(image)))[0]["RootFS"]["Layers"] for image in _IMAGES]
    sizes = {image: int(docker("image", "inspect", "--format={{.Size}}", _named(image))) for image in _IMAGES}

    common = [each for each in layers[0] if all(each in others for others in layers)]
    assert len(common) >= len(layers[0]) - 2, "only the code differs"
    assert max(sizes.values()) - min(sizes.values()) < 200 * 2**20, sizes


def test_an_image_has_no_extras_unless_they_are_built_in() -> None:
    """And says what is missing when it is configured to use them."""
    tag = f"pixcrawler-scheduler-extras:{TAG}"
    build = ("build", "--quiet", f"--tag={tag}", "--file=infra/docker/Dockerfile", "--target=scheduler")
    extras = "--build-arg=PIXCRAWLER_EXTRAS=otel sentry"
    docker(*build, extras, str(ROOT), limit_seconds=BUILD_LIMIT_SECONDS)
    asked = ("--env=PIXCRAWLER_TRACING=true", "--env=PIXCRAWLER_SENTRY_DSN=https://key@sentry.invalid/1")
    load = ("python", "-c", "from shared.settings import Settings; Settings.load(); import sentry_sdk; print('both')")

    assert docker("run", "--rm", "--network=none", *asked, tag, *load) == "both\n"
    with pytest.raises(AssertionError, match=r"pixcrawler\[otel\](?s:.*)pixcrawler\[sentry\]"):
        docker("run", "--rm", "--network=none", *asked, _named("scheduler"), *load)


def _named(image: str) -> str:
    return f"pixcrawler-{image}:{TAG}"
