"""The choices that `run` and `submit` share: declared once, spread over their signatures, made into a request."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from typer import Argument, Option

from pixcrawler.words import Depth, ImageFormat, ImageKind, ListFormat, OutputFormat, ResizeMode

if TYPE_CHECKING:
    from pixcrawler.client import Client
    from pixcrawler.models import ListOptions, Recipe

Gateway = Annotated[
    str | None,
    Option("--gateway", envvar="PIXCRAWLER_GATEWAY", help="The gateway's URL; by default your running stack's."),
]
ApiKey = Annotated[
    str | None, Option("--api-key", envvar="PIXCRAWLER_API_KEY", help="The key; better in the environment.")
]

AsJson = Annotated[bool, Option("--json", help="Lines of JSON on stdout, for programs.")]
JobId = Annotated[str, Argument(metavar="JOB", help="The job's id.")]
ListPath = Annotated[
    Path, Argument(metavar="LIST", help="txt, csv, tsv, json, jsonl or parquet, each also .gz.", show_default=False)
]
To = Annotated[str, Option("--to", metavar="DEST", help="A folder, az://container/prefix or s3://bucket/prefix.")]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which gateway a command talks to, and for whom it prints."""

    gateway: Gateway = None
    api_key: ApiKey = None
    as_json: AsJson = False

    def client(self) -> "Client":
        """Raises Failure when no gateway is named and no stack is up, or one is named without a key."""
        from pixcrawler.commands.gateway import open_client

        return open_client(self.gateway, self.api_key)


_LIST = "The list"
_CHECKS = "What is accepted"
_STORED = "What is stored"
_FETCHING = "How images are fetched"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What can be chosen for a dataset. None and False: as the gateway has it."""

    name: Annotated[str, Option(help="A name for people; by default the list's.", metavar="TEXT")] = ""
    endpoint: Annotated[str | None, Option(help="Base URL of an S3-compatible store, for s3://.", metavar="URL")] = None

    input_format: Annotated[
        ListFormat | None, Option(help="The list's format; by default as its name tells.", rich_help_panel=_LIST)
    ] = None
    url_col: Annotated[str | None, Option(help="Column with the URLs; by default url.", rich_help_panel=_LIST)] = None
    caption_col: Annotated[str | None, Option(help="Column with the captions.", rich_help_panel=_LIST)] = None
    save_columns: Annotated[
        list[str] | None,
        Option(help="Columns kept in the index: a,b or the option repeated.", metavar="A,B", rich_help_panel=_LIST),
    ] = None

    min_image_size: Annotated[
        int | None, Option(min=0, help="Smallest shorter side, in pixels.", rich_help_panel=_CHECKS)
    ] = None
    max_image_area: Annotated[int | None, Option(min=1, help="Largest area, in pixels.", rich_help_panel=_CHECKS)] = (
        None
    )
    max_aspect_ratio: Annotated[
        float | None, Option(min=1, help="Largest longer side over shorter side.", rich_help_panel=_CHECKS)
    ] = None
    max_pixels: Annotated[
        int | None, Option(min=1, help="Largest image that is decoded, in pixels.", rich_help_panel=_CHECKS)
    ] = None
    min_bytes: Annotated[int | None, Option(min=0, help="Smallest file, in bytes.", rich_help_panel=_CHECKS)] = None
    max_bytes: Annotated[int | None, Option(min=1, help="Largest file, in bytes.", rich_help_panel=_CHECKS)] = None
    formats: Annotated[
        list[str] | None,
        Option(help="Formats accepted, of jpg,png,webp,gif.", metavar="A,B", rich_help_panel=_CHECKS),
    ] = None
    depth: Annotated[Depth | None, Option(help="How thoroughly images are checked.", rich_help_panel=_CHECKS)] = None
    no_deduplicate: Annotated[
        bool,
        Option("--no-deduplicate", help="Keep images whose bytes stand at an earlier row.", rich_help_panel=_CHECKS),
    ] = False

    output_format: Annotated[
        OutputFormat | None, Option(help="How images lie in the destination.", rich_help_panel=_STORED)
    ] = None
    image_format: Annotated[
        ImageFormat | None, Option(help="By default original, or jpeg for webdataset.", rich_help_panel=_STORED)
    ] = None
    resize_mode: Annotated[
        ResizeMode | None, Option(help="How images are brought to the image size.", rich_help_panel=_STORED)
    ] = None
    image_size: Annotated[int | None, Option(min=1, help="Target side, in pixels.", rich_help_panel=_STORED)] = None
    resize_only_if_bigger: Annotated[
        bool, Option("--resize-only-if-bigger", help="Never make an image larger.", rich_help_panel=_STORED)
    ] = False
    encode_quality: Annotated[
        int | None, Option(min=1, max=100, help="For images encoded anew.", rich_help_panel=_STORED)
    ] = None
    keep_metadata: Annotated[
        bool, Option("--keep-metadata", help="Keep EXIF, XMP and comments.", rich_help_panel=_STORED)
    ] = False

    thumbnails: Annotated[
        int | None,
        Option(min=16, max=512, help="Keep small JPEGs too, of this longer edge in pixels.", rich_help_panel=_STORED),
    ] = None

    no_robots: Annotated[bool, Option("--no-robots", help="Do not ask robots.txt.", rich_help_panel=_FETCHING)] = False
    no_opt_out: Annotated[
        bool, Option("--no-opt-out", help="Ignore X-Robots-Tag and TDM reservations.", rich_help_panel=_FETCHING)
    ] = False
    attempts: Annotated[
        int | None, Option(min=1, max=10, help="Tries for a URL whose failure may pass.", rich_help_panel=_FETCHING)
    ] = None
    url_deadline_seconds: Annotated[
        float | None, Option(min=0.001, max=600, help="For one URL, redirects included.", rich_help_panel=_FETCHING)
    ] = None

    def recipe(self) -> "Recipe":
        """Only what was chosen. Raises ValueError for a format that is none."""
        from pixcrawler.models import Recipe

        chosen: dict[str, Any] = {
            name: value
            for name in Recipe.model_fields
            if (value := getattr(self, name, None)) is not None and value is not False and name != "formats"
        }
        chosen |= {name: False for name in ("deduplicate", "robots", "opt_out") if getattr(self, f"no_{name}")}
        if self.formats:
            chosen["formats"] = tuple(_kind(name) for name in split(self.formats))
        return Recipe(**chosen)

    def list_options(self) -> "ListOptions":
        from pixcrawler.models import ListOptions

        chosen = {
            "format": self.input_format,
            "url_col": self.url_col,
            "caption_col": self.caption_col,
            "save_columns": split(self.save_columns) if self.save_columns else None,
        }
        return ListOptions(**{name: value for name, value in chosen.items() if value is not None})

    def upload_name(self, path: Path) -> str:
        """The name that tells the gateway the format: the file's own, or one that says what was chosen."""
        if self.input_format is None:
            return path.name
        return f"{path.stem[:100] or 'list'}.{self.input_format}{'.gz' if path.suffix.lower() == '.gz' else ''}"


def split(values: Sequence[str]) -> list[str]:
    """`a,b` and repeated options alike."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command with a parameter `asked: Asked` or `choices: Choices` one option for each of its fields instead.

    They stand behind the command's own parameters.
    """
    own = inspect.signature(command, eval_str=True)
    groups = {name: kind for name, kind in _GROUPS.items() if name in own.parameters}

    @functools.wraps(command)
    def spread_out(**given: Any) -> None:
        grouped = {
            name: kind(**{each.name: given.pop(each.name) for each in fields(kind)}) for name, kind in groups.items()
        }
        command(**grouped, **given)

    shown = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in own.parameters.items()
        if name not in groups
    ]
    shown += [option for kind in groups.values() for option in _options_of(kind)]
    # typer reads both.
    spread_out.__dict__["__signature__"] = own.replace(parameters=shown)
    spread_out.__annotations__ = {each.name: each.annotation for each in shown} | {"return": None}
    return spread_out


#: What may be spread, in the order in which it is shown.
_GROUPS: dict[str, type[Asked] | type[Choices]] = {"asked": Asked, "choices": Choices}


def _options_of(kind: type[Asked] | type[Choices]) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in fields(kind)
    ]


def _kind(name: str) -> ImageKind:
    try:
        return ImageKind(name.lower())
    except ValueError:
        known = ", ".join(ImageKind)
        raise ValueError(f"--formats: '{name}' is not known; choose of {known}") from None
