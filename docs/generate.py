"""Writes the reference pages that the code knows best: `make docs` writes them, a test refuses stale ones.

Nothing is said twice: the settings classes, the closed lists in `shared/` and the comments beside them are
the source.
"""

import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from enum import Enum, StrEnum
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any, get_args, get_origin
from uuid import UUID

from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.main import get_command

from gateway.app import create_app
from gateway.settings import GatewaySettings
from pixcrawler import cli
from pixcrawler.commands import exits
from shared import metrics, pipeline, reasons, recipe, records, statistics
from shared.egress import EgressSettings
from shared.settings import ENV_PREFIX, Settings, StorageSettings, WorkerSettings

REFERENCE = Path(__file__).parent / "reference"
SERVICES = ("gateway", "scheduler", "downloader", "validator", "uploader")
_HEAD = "<!-- Written by docs/generate.py: change the code, then `make docs`. -->\n"


def pages() -> dict[str, str]:
    """The text of each generated page, by its file name under docs/reference."""
    makers: dict[str, Callable[[], Iterator[str]]] = {
        "settings.md": _settings,
        "recipe.md": _recipe,
        "reasons.md": _reasons,
        "states.md": _states,
        "index-columns.md": _index_columns,
        "statistics.md": _statistics,
        "metrics.md": _metrics,
        "errors.md": _errors,
        "command.md": _command,
        "exit-codes.md": _exit_codes,
    }
    written = {name: _HEAD + "\n".join(maker()) + "\n" for name, maker in makers.items()}
    return written | {"openapi.json": _openapi()}


def _openapi() -> str:
    """The document as a gateway with default settings answers it; clients are generated from it."""
    document = create_app(GatewaySettings.model_validate({})).openapi()
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def settings_classes() -> dict[str, type[StorageSettings]]:
    """Whose settings, and the class that holds them; a class lists only what its parents lack."""
    found: dict[str, type[StorageSettings]] = {
        "Object stores": StorageSettings,
        "Every service": Settings,
        "Every stage": WorkerSettings,
        "Whoever asks other hosts": EgressSettings,
    }
    for service in SERVICES:
        if (Path(__file__).parents[1] / service / "settings.py").exists():
            found[service.capitalize()] = _own_settings(importlib.import_module(f"{service}.settings"))
    return found


def _own_settings(module: ModuleType) -> type[Settings]:
    own = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Settings) and member.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise ValueError(f"{module.__name__} must hold exactly one settings class, not {len(own)}")
    return own[0]


def own_fields(owner: type[StorageSettings]) -> dict[str, FieldInfo]:
    """The fields that this class adds or gives another default."""
    return {name: field for name, field in owner.model_fields.items() if name in owner.__annotations__}


def _settings() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield from (
        "Services read their settings from the environment, once, at start. All mistakes are reported together, by",
        "the name of the variable, and the service ends with exit code 78. Lists and mappings are written as JSON.",
        "A service reads its own variables and those of *Every service* and *Object stores*; the downloader, the",
        "validator and the uploader also read *Every stage*; the gateway, the scheduler and the downloader *Whoever",
        "asks other hosts*. A row that appears again below has another default there.",
    )
    for title, owner in settings_classes().items():
        fields = own_fields(owner)
        if not fields:
            continue
        yield from ("", f"## {title}", "", "| variable | default | meaning |", "| --- | --- | --- |")
        for name, field in fields.items():
            yield f"| `{ENV_PREFIX}{name.upper()}` | {_default(field)} | {_cell(_meaning(field))} |"


def _recipe() -> Iterator[str]:
    yield "# Recipe"
    yield ""
    yield from (
        "What a job asks for. Every field has a default; unknown fields are refused. Names follow img2dataset",
        "where they mean the same.",
    )
    yield from ("", "| field | default | meaning |", "| --- | --- | --- |")
    for name, field in recipe.Recipe.model_fields.items():
        yield f"| `{name}` | {_default(field)} | {_cell(_meaning(field))} |"
    for kind in (recipe.Depth, recipe.OutputFormat, recipe.ImageFormat, recipe.ResizeMode, recipe.ImageKind):
        yield from ("", f"## {kind.__name__}", "", inspect.getdoc(kind) or "", "")
        comments = _comments(kind)
        for member in kind:
            note = comments.get(member.name)
            yield f"- `{member.value}`" + (f": {note}" if note else "")


def _reasons() -> Iterator[str]:
    yield "# Reasons"
    yield ""
    yield from (
        "Every row of a dataset is accepted or carries exactly one of these reasons. Codes are stable; advice may",
        "be reworded. *Retry* says whether the same URL may give an image another day.",
    )
    for group in reasons.Group:
        rows = [(reason, about) for reason, about in reasons.REASONS.items() if about.group is group]
        yield from (
            "",
            f"## {group.value.capitalize()}",
            "",
            "| code | retry | what it means, what to do |",
            "| --- | --- | --- |",
        )
        for reason, about in rows:
            yield f"| `{reason}` | {'yes' if about.is_retryable else 'no'} | {_cell(about.advice)} |"


def _states() -> Iterator[str]:
    yield "# States and stages"
    yield ""
    yield "## Chunk"
    yield ""
    yield "```text"
    yield from inspect.getdoc(pipeline).split("\n\n")[1].splitlines()  # type: ignore[union-attr]
    yield "```"
    yield from _state_table(pipeline.ChunkState, lambda state: state in pipeline.SLOT_STATES)
    yield from ("", "Legal moves:", "", "| from | to |", "| --- | --- |")
    for state, targets in pipeline.ALLOWED_MOVES.items():
        listed = ", ".join(f"`{target}`" for target in pipeline.ChunkState if target in targets)
        yield f"| `{state}` | {listed or 'nowhere'} |"
    yield from ("", "## Job", "", "| state | who moves it on, and when |", "| --- | --- |")
    comments = _comments(pipeline.JobState)
    for job_state in pipeline.JobState:
        yield f"| `{job_state}` | {_cell(comments.get(job_state.name, 'nobody: it has ended'))} |"
    yield from ("", "## Stages", "")
    yield "| stage | service | queue and routing key | task | attempts | pauses between them | deadline | soft stop |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for stage in pipeline.PIPELINE:
        policy = stage.retry
        yield (
            f"| {stage.name} | `{stage.service}` | `{stage.queue}` | `{stage.task}` | {policy.attempts} "
            f"| {_seconds(policy.first_delay)}, doubled up to {_seconds(policy.longest_delay)} "
            f"| {_seconds(stage.deadline)} | {_seconds(stage.soft_stop)} |"
        )
    yield from ("", "## Tiers", "", "| tier | head start | spacing of a tenant's chunks |", "| --- | --- | --- |")
    for tier in pipeline.Tier:
        yield f"| {tier} | {_seconds(tier.head_start)} | {_seconds(tier.spacing)} |"


def _state_table(states: type[pipeline.ChunkState], holds_slot: Callable[[pipeline.ChunkState], bool]) -> Iterator[str]:
    comments = _comments(states)
    yield from ("", "| state | holds a slot | who moves it on, and when |", "| --- | --- | --- |")
    for state in states:
        yield f"| `{state}` | {'yes' if holds_slot(state) else 'no'} | {_cell(comments.get(state.name, ''))} |"


def _index_columns() -> Iterator[str]:
    yield "# Index columns"
    yield ""
    yield from (
        "Each Parquet file below `index/` has one row for every input row of its chunk, in input order. The",
        "columns that the client asked to save stand first, under their own names; these follow.",
    )
    yield from ("", "| column | type | null |", "| --- | --- | --- |")
    for field in records.INDEX:
        yield f"| `{field.name}` | {field.type} | {'may be' if field.nullable else 'never'} |"
    yield from ("", "A client's own columns may not be called:", "")
    yield ", ".join(f"`{name}`" for name in sorted(records.RESERVED_COLUMNS)) + "."


def _statistics() -> Iterator[str]:
    yield "# Statistics"
    yield ""
    yield from (
        "A dataset in figures: `statistics.json` beside its data, `GET /v1/jobs/{id}/statistics` and",
        "`pixcrawler job stats ID`. They are worked out from the [index](index-columns.md) when a job of the dataset",
        "ends, just before `_SUCCESS`, and again when a purge has removed something. Each row counts once, as its",
        "newest revision has it.",
    )
    yield from _figures(statistics.Statistics)
    for part in (statistics.Spread, statistics.Hosts, statistics.StageTime):
        yield from ("", f"## {part.__name__}", "", inspect.getdoc(part) or "")
        yield from _figures(part)


def _figures(of: type[BaseModel]) -> Iterator[str]:
    yield from ("", "| figure | type | meaning |", "| --- | --- | --- |")
    for name, field in of.model_fields.items():
        yield f"| `{name}` | {_type_name(field.annotation)} | {_cell(_meaning(field))} |"


def _type_name(annotation: Any) -> str:
    """As JSON has it; the parts have tables of their own."""
    if get_args(annotation) and get_origin(annotation) not in (dict, list):
        return " or ".join(_type_name(part) for part in get_args(annotation))
    words = {int: "number", float: "number", bool: "true or false", dict: "object", list: "list", NoneType: "null"}
    plain = get_origin(annotation) or annotation
    return words.get(plain, "text" if plain in (str, UUID) else plain.__name__)


def _metrics() -> Iterator[str]:
    yield "# Metrics"
    yield ""
    yield from (
        "Every service answers `/metrics` on `PIXCRAWLER_HTTP_PORT`. Labels are closed lists, or names that an",
        "operator gave (`cell`), never URLs, hosts, tenants or ids. Counters count what was tried, so a redone chunk",
        "counts again. What is told by the leading scheduler alone is read from PostgreSQL, Redis and the broker every",
        "five seconds.",
    )
    yield from ("", "| metric | kind | labels | meaning |", "| --- | --- | --- | --- |")
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            described = metric.describe()[0]
            name = f"{described.name}_total" if described.type == "counter" else described.name
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            yield f"| `{name}` | {described.type} | {labels} | {_cell(described.documentation)} |"


def _errors() -> Iterator[str]:
    from shared import errors

    yield "# Errors"
    yield ""
    yield from (
        "A chunk or a job that fails carries one of these codes. Codes are stable; texts may change. An image that",
        "cannot be had is not among them: it is a row with a [reason](reasons.md).",
    )
    yield from ("", "```text")
    yield from inspect.cleandoc(errors.__doc__ or "").split("\n\n")[1].splitlines()
    yield from ("```", "", "| code | error |", "| --- | --- |")
    for _, error in inspect.getmembers(errors, inspect.isclass):
        if issubclass(error, errors.PixCrawlerError):
            yield f"| `{error.code}` | {error.__name__} |"


def _comments(kind: type[Enum]) -> dict[str, str]:
    """The `#:` comment behind each member, by the member's name."""
    lines = re.findall(r"^\s+([A-Z_]+) = .*?#: (.+)$", inspect.getsource(kind), re.MULTILINE)
    return dict(lines)


def _meaning(field: FieldInfo) -> str:
    described = field.description or ""
    choices = _choices(field.annotation)
    return "; ".join(part for part in (described, choices) if part)


def _choices(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if get_origin(annotation) is not None and all(isinstance(choice, str) for choice in get_args(annotation)):
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    return ""


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "see meaning" if field.default_factory not in (dict, list, tuple) else "none"
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value in ((), frozenset(), {}):
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | frozenset):
        ordered = list(value) if isinstance(value, tuple) else sorted(value)
        return ", ".join(f"`{part}`" for part in ordered)
    return f"`{value}`"


def _seconds(duration: Any) -> str:
    return f"{duration.total_seconds():g} s"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _command() -> Iterator[str]:
    yield "# The command"
    yield ""
    yield from (
        "`pixcrawler run` builds a dataset on this machine. It starts what it needs, and stops it at the end; several",
        "runs of one user share one stack. A run is known by its destination, the content of its list and its recipe:",
        "after Ctrl-C the same command goes on where it stopped, and a finished run says so. `pixcrawler up` keeps the",
        "stack running. The other commands talk to the gateway named by `--gateway` or `PIXCRAWLER_GATEWAY` with the",
        "key in `PIXCRAWLER_API_KEY`, or to your running stack. Both, and defaults for other options, may stand in",
        "[a file](../how-to/use-the-command.md).",
        "",
        "Progress goes to stderr, results to stdout. [Exit codes](exit-codes.md) tell how a command ended.",
    )
    for name, command in _commands(get_command(cli.app)):
        yield from ("", f"## pixcrawler {name}", "", command.help, "")
        parameters = [each for each in command.params if each.name != "help"]
        yield from ("| argument or option | meaning |", "| --- | --- |") if parameters else ()
        for parameter in parameters:
            yield f"| {_usage(parameter)} | {_cell(parameter.help or '')} |"


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, those of a group behind one another."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield f"{before}{name}", command
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    kind = parameter.type_descriptor
    wanted = "|".join(kind.choices) if kind.is_choice else parameter.metavar or kind.annotation.__name__.upper()
    return f"`{parameter.opts[0]}`" if parameter.is_flag else f"`{parameter.opts[0]} {_cell(wanted)}`"


def _exit_codes() -> Iterator[str]:
    yield "# Exit codes"
    yield ""
    yield from (
        "What `pixcrawler` ends with. Whatever went wrong is also one sentence on stderr; with `--json` a line",
        '`{"event": "error", "code": ..., "message": ..., "exit_code": ...}` on stdout says the same.',
    )
    yield from ("", "| code | meaning |", "| --- | --- |")
    comments = _comments(exits.Exit)
    for code in exits.Exit:
        yield f"| {code.value} | {_cell(comments[code.name])} |"


def main() -> None:
    """Writes the pages that differ from what lies there."""
    for name, text in pages().items():
        page = REFERENCE / name
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


if __name__ == "__main__":
    main()
