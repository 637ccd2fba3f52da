"""What must not be found anywhere in the tree."""

import re

from tests.architecture.tree import ROOT, files, modules, texts

#: Each pattern is written so that it does not match itself.
_FOREIGN = {
    "a package registry": r"py[p]i\.org|pythonhoste[d]\.org|registry\.npmj[s]|proxy\.golan[g]",
    "a path of one machine": r"/roo[t]/|/wor[k]/(?:main|shared)",
}
_HIDING_MODULE = re.compile(r"^_?(manager|helpers?|utils?|common|misc|data|info)$")
_HIDING_CLASS = re.compile(r"^class \w*(Manager|Helper|Utils?|Misc)\b", re.MULTILINE)
#: A runner of a machine without a container registry may be mentioned here and nowhere else.
_OFFLINE_RUNNER = re.compile(r"docker-offlin[e]")


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = [
        f"{path}: {what}: {match[0]}"
        for path, text in texts()
        for what, pattern in _FOREIGN.items()
        if (match := re.search(pattern, text))
    ]

    assert not found, "\n".join(found)


def test_the_offline_runner_is_known_to_ci_only() -> None:
    found = [str(path) for path, text in texts() if _OFFLINE_RUNNER.search(text)]

    assert set(found) <= {".ci/run"}


def test_names_say_what_they_mean() -> None:
    hiding = [str(path) for path, _ in modules() if _HIDING_MODULE.match(path.stem)]
    hiding += [f"{path}: {match[0]}" for path, text in modules() for match in _HIDING_CLASS.finditer(text)]

    assert not hiding, "\n".join(hiding)


def test_nothing_is_left_for_later() -> None:
    marker = re.compile(r"TOD[O]|FIXM[E]|XX[X]|NotImplementedErro[r]")
    found = [f"{path}: {match[0]}" for path, text in modules() if (match := marker.search(text))]

    assert not found, "\n".join(found)


def test_every_file_is_small_enough_to_be_kept() -> None:
    large = [
        f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes" for path in files() if path.stat().st_size > 2**20
    ]

    assert not large, "\n".join(large)
