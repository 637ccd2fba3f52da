import socket
from pathlib import Path

import pytest

from pixcrawler.local import Home, LocalStackError
from pixcrawler.local.binaries import check_platform, own_system_folder
from pixcrawler.local.checks import check_port, check_room, diagnose
from pixcrawler.local.errors import EXIT_CANNOT_CREATE, EXIT_UNAVAILABLE
from pixcrawler.local.home import is_root


@pytest.mark.parametrize(
    ("system", "machine"),
    [("linux", "x86_64"), ("linux", "AMD64"), ("linux", "aarch64"), ("linux", "arm64"), ("darwin", "arm64")],
)
def test_platforms_with_wheels_pass(system: str, machine: str) -> None:
    check_platform(system, machine)


@pytest.mark.parametrize(
    ("system", "machine", "advice"),
    [
        ("win32", "AMD64", "use WSL"),
        ("darwin", "x86_64", "use a gateway elsewhere"),
        ("linux", "riscv64", "use a gateway elsewhere"),
        ("freebsd14", "x86_64", "use a gateway elsewhere"),
    ],
)
def test_other_platforms_are_told_what_to_use(system: str, machine: str, advice: str) -> None:
    with pytest.raises(LocalStackError, match=advice) as caught:
        check_platform(system, machine)

    assert caught.value.exit_code == EXIT_UNAVAILABLE


def test_too_little_room_is_a_sentence_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match=r"MB free, .* needs 1000000000000 MB") as caught:
        check_room(tmp_path, needed_bytes=10**18)

    assert caught.value.exit_code == EXIT_CANNOT_CREATE


def test_a_port_in_use_is_refused_only_when_it_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(LocalStackError, match=str(port)):
            check_port(port)
        check_port(None)
    check_port(port)


def test_a_diagnosis_goes_on_after_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    findings = {finding.name: finding for finding in diagnose(Home(tmp_path / "file" / "home"))}

    assert findings["platform"].is_well
    assert findings["PostgreSQL from its wheel"].is_well
    assert "cannot be written" in findings["home folder"].problem
    assert "port of the gateway" in findings


@pytest.mark.skipif(not is_root(), reason="root's folder only")
def test_a_system_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "system"
    folder.mkdir()
    folder.chmod(0o777)

    with pytest.raises(LocalStackError, match="must belong to root alone"):
        own_system_folder(folder)
