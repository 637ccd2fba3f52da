import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pixcrawler.local import Home, LocalStackError
from pixcrawler.local.errors import EXIT_CANNOT_CREATE
from pixcrawler.local.home import is_root, write_private

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="folders of Linux")


def test_the_home_is_where_the_variable_says() -> None:
    assert Home.find({"PIXCRAWLER_HOME": "/data/my pix"}).folder == Path("/data/my pix")


@linux_only
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HOME": "/home/ada"}, "/home/ada/.local/share/pixcrawler"),
        ({"HOME": "/home/ada", "XDG_DATA_HOME": "/data"}, "/data/pixcrawler"),
        # A relative path is to be ignored.
        ({"HOME": "/home/ada", "XDG_DATA_HOME": "data"}, "/home/ada/.local/share/pixcrawler"),
        ({"HOME": "/home/ada", "PIXCRAWLER_HOME": ""}, "/home/ada/.local/share/pixcrawler"),
    ],
)
def test_the_home_lies_in_the_users_data_folder_by_default(variables: dict[str, str], expected: str) -> None:
    assert Home.find(variables).folder == Path(expected)


def test_its_folders_are_for_the_user_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "new" / "home")

    home.create()

    for folder in (home.folder, home.spool, home.work, home.logs, home.secrets, home.run, home.empty):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_home_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(LocalStackError, match="set PIXCRAWLER_HOME") as caught:
        Home(tmp_path / "file" / "home").create()

    assert caught.value.exit_code == EXIT_CANNOT_CREATE


def test_a_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(home.secret, ["password"] * 64))

    assert len(found) == 1
    assert len(found.pop()) >= 40
    assert stat.S_IMODE((home.secrets / "password").stat().st_mode) == 0o600
    assert [path.name for path in home.secrets.iterdir()] == ["password"]


def test_a_private_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("old")
    path.chmod(0o644)

    write_private(path, "new")

    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(not is_root(), reason="root's PostgreSQL only")
def test_as_root_the_database_lies_in_the_systems_folder(tmp_path: Path) -> None:
    first, second = Home(tmp_path / "a"), Home(tmp_path / "b")

    assert first.postgres.parent == first.system_folder
    assert first.postgres != second.postgres


def test_erasing_removes_everything(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", system_folder=tmp_path / "system")
    home.create()
    home.secret("password")
    home.postgres.mkdir(parents=True)

    home.erase()

    assert os.listdir(tmp_path) == []
