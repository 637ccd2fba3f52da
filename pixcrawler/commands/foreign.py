"""img2dataset's names of options, where they mean the same; where they do not, a sentence says what is done instead."""

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields

from pixcrawler.commands.exits import Failure
from pixcrawler.commands.options import Choices

#: Commands that take them.
_COMMANDS = (["run"], ["submit"], ["job", "submit"])
_OURS = {f"--{each.name}" for each in fields(Choices)} | {"--api_key"}
#: Here a flag, there a word that says whether.
_FLAGS = {"--resize_only_if_bigger": "--resize-only-if-bigger"}


def _columns(value: str) -> str:
    """There a list as Python writes it, here names parted by commas."""
    try:
        found = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value
    return ",".join(map(str, found)) if isinstance(found, list | tuple) else value


def _attempts(value: str) -> str:
    """There how often it is tried again, here how often it is tried."""
    return str(int(value) + 1) if value.isascii() and value.isdigit() and len(value) < 4 else value


def _as_it_is(value: str) -> str:
    return value


_RENAMED: dict[str, tuple[str, Callable[[str], str]]] = {
    "--url_list": ("", _as_it_is),  # the argument
    "--output_folder": ("--to", _as_it_is),
    "--encode_format": ("--image-format", lambda value: "jpeg" if value == "jpg" else value),
    "--save_additional_columns": ("--save-columns", _columns),
    "--retries": ("--attempts", _attempts),
}
_ITSELF = "PixCrawler decides that by itself; leave it out"
_ELSEWHERE: dict[str, str] = {
    "--processes_count": _ITSELF,
    "--thread_count": _ITSELF,
    "--number_sample_per_shard": "a chunk has 500 rows, and what is stored follows from that; leave it out",
    "--subjob_size": _ITSELF,
    "--oom_shard_count": _ITSELF,
    "--max_shard_retry": "a chunk that fails is tried again by itself, and may be redriven; leave it out",
    "--incremental_mode": "the same command goes on where it stopped; leave it out",
    "--distributor": "there are several workers of each stage instead; leave it out",
    "--timeout": "one deadline holds for a URL, redirects included; say --url-deadline-seconds",
    "--compute_hash": "the index always has the sha256; leave it out",
    "--verify_hash": "hashes are not compared with the list's; leave it out",
    "--extract_exif": "the index has no EXIF; --keep-metadata keeps it in the image",
    "--skip_reencode": "images stay as they are unless a size or a format is chosen; leave it out",
    "--disable_all_reencoding": "images stay as they are unless a size or a format is chosen; leave it out",
    "--bbox_col": "nothing is blurred here",
    "--user_agent_token": "the operator says who we are, by PIXCRAWLER_USER_AGENT",
    "--disallowed_header_directives": "X-Robots-Tag is heeded; --no-opt-out ignores it",
    "--enable_wandb": "progress is shown here, and in Prometheus; leave it out",
    "--wandb_project": "progress is shown here, and in Prometheus; leave it out",
}


def translated(arguments: Sequence[str]) -> list[str]:
    """The arguments with our names. Raises Failure for an option that has no meaning here."""
    head = next((command for command in _COMMANDS if list(arguments[: len(command)]) == command), None)
    if head is None:
        return list(arguments)
    return [*head, *_ours(list(arguments[len(head) :]))]


def _ours(left: list[str]) -> Iterator[str]:
    while left:
        argument = left.pop(0)
        name, has_value, value = argument.partition("=")
        if argument == "--":
            yield from [argument, *left]
            return
        if name in _ELSEWHERE:
            raise Failure(f"{name}: {_ELSEWHERE[name]}")
        if name in _RENAMED or name in _FLAGS:
            yield from _one(name, value if has_value else _next(name, left))
        elif name in _OURS:
            yield f"{name.replace('_', '-')}{has_value}{value}"
        else:
            yield argument


def _next(name: str, left: list[str]) -> str:
    if name in _FLAGS and (not left or left[0] not in ("True", "False")):
        return "True"
    if not left:
        raise Failure(f"Option '{name}' requires an argument")
    return left.pop(0)


def _one(name: str, value: str) -> list[str]:
    if name in _FLAGS:
        return [_FLAGS[name]] if value == "True" else []
    ours, meaning = _RENAMED[name]
    return [part for part in (ours, meaning(value)) if part]
