"""A user's file of defaults: below the environment, below options; and what a shell completes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from pixcrawler.cli import app, main
from pixcrawler.commands import config_file
from pixcrawler.commands.exits import Failure

KEY = "pxc_a1b2c3d4_secretsecret"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in (config_file.VARIABLE, *config_file.ENVIRONMENT.values()):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    made = tmp_path / "pixcrawler" / "config.toml"
    made.parent.mkdir()
    return made


def written(file: Path, text: str, mode: int = 0o600) -> None:
    file.write_text(text)
    file.chmod(mode)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_without_a_file_everything_is_as_ever(file: Path) -> None:
    assert config_file.read() == {}
    assert {setting.source for setting in config_file.settings({})} == {"default"}


def test_show_says_where_each_value_comes_from_and_keeps_the_secret(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(file, f'gateway = "http://a"\napi_key = "{KEY}"\noutput-format = "webdataset"\nformats = ["jpg"]\n')
    monkeypatch.setenv("PIXCRAWLER_GATEWAY", "http://b")

    code, out, _ = shown(capsys, "config", "show", "--json")

    told = {line["name"]: (line["value"], line["source"]) for line in map(json.loads, out.splitlines())}
    assert code == 0
    assert told["gateway"] == ("http://b", "PIXCRAWLER_GATEWAY")
    assert told["api_key"] == ("pxc_a1b2c3d4_…", str(file))
    assert told["output_format"] == ("webdataset", str(file))
    assert told["formats"] == (["jpg"], str(file))
    assert told["attempts"] == (None, "default")
    assert "secret" not in out


def test_a_default_goes_to_every_command_that_has_the_option(file: Path) -> None:
    defaults = config_file.defaults_for(get_command(app), {"gateway": "http://a", "image_size": 256})

    assert defaults["run"] == {"image_size": 256}
    assert defaults["submit"] == {"gateway": "http://a", "image_size": 256}
    assert defaults["job"]["clone"] == {"gateway": "http://a", "image_size": 256}
    assert defaults["admin"]["key"]["create"] == {"gateway": "http://a"}


def test_options_and_the_environment_go_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(file, f'gateway = "file"\napi_key = "{KEY}"\n')
    by_file = shown(capsys, "job", "list")[2]
    monkeypatch.setenv("PIXCRAWLER_GATEWAY", "environment")
    by_environment = shown(capsys, "job", "list")[2]
    by_option = shown(capsys, "job", "list", "--gateway", "option")[2]

    for said, source in ((by_file, "file"), (by_environment, "environment"), (by_option, "option")):
        assert f"'{source}'" in said, said


@pytest.mark.parametrize(
    ("text", "mode", "sentence"),
    [
        ("gateway = ", 0o600, "is not TOML"),
        ('colour = "red"', 0o600, "'colour' is no option that may stand there"),
        ('name = "cats"', 0o600, "'name' is no option"),
        ("image_size = {}", 0o600, "image_size must be"),
        (f'api_key = "{KEY}"', 0o640, "chmod 600"),
    ],
)
def test_a_wrong_file_is_one_sentence(file: Path, text: str, mode: int, sentence: str) -> None:
    written(file, text, mode)

    with pytest.raises(Failure, match=sentence) as refused:
        config_file.read()

    assert refused.value.code == 78
    assert "secret" not in str(refused.value)


def test_a_file_that_was_named_must_be_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(config_file.VARIABLE, str(file.with_name("none.toml")))

    with pytest.raises(Failure, match="which is not there"):
        config_file.read()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shells_script_asks_this_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = shown(capsys, "completion", shell)

    assert code == 0
    assert "_PIXCRAWLER_COMPLETE" in out


def test_zsh_completes_at_the_first_key_and_registers_when_it_is_evaluated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = shown(capsys, "completion", "zsh")[1]

    end = script.index("if [[ $funcstack[1] == _pixcrawler ]]; then")
    assert '_pixcrawler_completion "$@"' in script[end:]
    assert script.count("compdef _pixcrawler_completion pixcrawler") == 1


def test_bash_completes_nouns_and_verbs(file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = tmp_path / "bin" / "pixcrawler"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pixcrawler.cli "$@"\n')
    command.chmod(0o755)
    script = shown(capsys, "completion", "bash")[1]
    asked = 'COMP_WORDS=(pixcrawler job re); COMP_CWORD=2; _pixcrawler_completion pixcrawler; echo "${COMPREPLY[@]}"'

    found = subprocess.run(
        ["bash", "-c", f"{script}\n{asked}"],
        env={**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert set(found.stdout.split()) >= {"resume", "rejects", "retry"}
    assert "submit" not in found.stdout.split()
