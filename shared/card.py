"""`README.md`: the dataset card, which a person reads and from which Hugging Face's `load_dataset(folder)` learns.

One builder a card, and the index is never among its data files: a second Parquet configuration beside tar
shards is read as tar.
"""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shared.card_types import shard_features
from shared.card_yaml import yaml
from shared.chunk import NewObject
from shared.papers import Dataset, PaperState, plain
from shared.reasons import REASONS, Reason
from shared.recipe import ImageFormat, ImageKind, OutputFormat

_DATA = "data/"
#: Every open row of such a chunk is rejected, and yet some of its objects may have been stored before it ended.
_HALF_STORED = (Reason.CHUNK_FAILED, Reason.CANCELLED)
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)
_LARGEST = "100M<n<1B"
_PATTERNS = {OutputFormat.FILES: "*/*", OutputFormat.WEBDATASET: "*.tar", OutputFormat.PARQUET: "*.parquet"}
#: Of a shard's image members.
_SUFFIXES = {
    ImageFormat.JPEG: ImageKind.JPEG.value,
    ImageFormat.PNG: ImageKind.PNG.value,
    ImageFormat.WEBP: ImageKind.WEBP.value,
}


@dataclass(frozen=True, kw_only=True)
class _Config:
    """One way to load the dataset: all of it, or the images of one format."""

    name: str
    paths: Sequence[str]
    is_default: bool
    #: The column of the images.
    column: str


def card(dataset: Dataset) -> bytes:
    """The card; equal datasets have equal cards. Nothing a client wrote can break out of its place."""
    configs = _configs(dataset)
    parts = [
        f"---\n{yaml(_header(dataset, configs))}---",
        f"# {_escaped(plain(dataset.name))}",
        *_totals(dataset),
        *(_loading(dataset, configs) if configs else ()),
        *_layout(dataset),
        *_provenance(dataset),
    ]
    return ("\n\n".join(parts) + "\n").encode()


def _header(dataset: Dataset, configs: Sequence[_Config]) -> dict[str, Any]:
    header: dict[str, Any] = {
        "pretty_name": plain(dataset.name),
        "license": "unknown",
        "tags": ["image", "pixcrawler", *(["webdataset"] if _is_tar(dataset) else [])],
        "size_categories": [next((name for limit, name in _SIZES if dataset.accepted < limit), _LARGEST)],
    }
    if configs:
        header["configs"] = [_data_files(config) for config in configs]
        header["dataset_info"] = [_info(dataset, config, is_only=len(configs) == 1) for config in configs]
    return header


def _data_files(config: _Config) -> dict[str, Any]:
    path: Any = config.paths[0] if len(config.paths) == 1 else list(config.paths)
    default = {"default": True} if config.is_default else {}
    return {"config_name": config.name, **default, "data_files": [{"split": "train", "path": path}]}


def _info(dataset: Dataset, config: _Config, *, is_only: bool) -> dict[str, Any]:
    info: dict[str, Any] = {"config_name": config.name}
    if _is_tar(dataset) and dataset.saved is not None:
        info["features"] = shard_features(dataset.saved, suffix=config.column)
    # A later revision may hold a row again, so only the first one can promise what a loader will count.
    if is_only and dataset.revision == 0 and dataset.state is PaperState.COMPLETE:
        num_bytes = sum(item.size_bytes for item in _data_objects(dataset))
        info["splits"] = [{"name": "train", "num_bytes": num_bytes, "num_examples": dataset.accepted}]
    return info


def _configs(dataset: Dataset) -> list[_Config]:
    """How a loader finds the images; none while there are none, or it would fail on an empty pattern."""
    if not dataset.accepted:
        return []
    if _is_tar(dataset) and dataset.recipe.stored_format is ImageFormat.ORIGINAL:
        return _configs_by_kind(dataset)
    column = _SUFFIXES[dataset.recipe.stored_format] if _is_tar(dataset) else "image"
    return [_Config(name="default", paths=_paths(dataset, _DATA), is_default=True, column=column)]


def _configs_by_kind(dataset: Dataset) -> list[_Config]:
    """Kept formats lie in folders of their own; the one with most shards is what `load_dataset` takes unasked."""
    kinds = [item.key.removeprefix(_DATA).partition("/")[0] for item in _data_objects(dataset)]
    ordered = sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind))
    return [
        _Config(name=kind, paths=_paths(dataset, f"{_DATA}{kind}/"), is_default=kind == ordered[0], column=kind)
        for kind in ordered
    ]


def _paths(dataset: Dataset, prefix: str) -> list[str]:
    """A pattern; or, when chunks failed or were cancelled, the whole chunks one by one."""
    if not any(dataset.rejected.get(reason) for reason in _HALF_STORED):
        return [prefix + _PATTERNS[dataset.recipe.output_format]]
    keys = sorted(item.key for item in _data_objects(dataset) if item.key.startswith(prefix))
    if dataset.recipe.output_format is OutputFormat.FILES:
        return [f"{key.rpartition('/')[0]}/*" for key in keys]
    return keys


def _data_objects(dataset: Dataset) -> list[NewObject]:
    return [item for item in dataset.objects if item.key.startswith(_DATA)]


def _is_tar(dataset: Dataset) -> bool:
    return dataset.recipe.output_format is OutputFormat.WEBDATASET


def _totals(dataset: Dataset) -> Iterator[str]:
    if dataset.state is PaperState.BUILDING:
        yield "This dataset is being built. It is whole once there is a file `_SUCCESS`."
    yield f"{dataset.accepted:,} images were accepted of {dataset.rows:,} rows (revision {dataset.revision})."
    counts = sorted(((-count, reason) for reason, count in dataset.rejected.items() if count))
    if counts:
        lines = [f"| `{reason}` | {-count:,} | {REASONS[Reason(reason)].advice} |" for count, reason in counts]
        yield "## What was rejected"
        yield "\n".join(["| reason | rows | meaning |", "| --- | ---: | --- |", *lines])


def _loading(dataset: Dataset, configs: Sequence[_Config]) -> Iterator[str]:
    first = configs[0]
    yield "## How to load it"
    yield _python(
        "from datasets import load_dataset",
        'dataset = load_dataset("path/to/this/folder", split="train")',
        f'dataset[0]["{first.column}"]',
    )
    if len(configs) > 1:
        names = ", ".join(f"`{config.name}`" for config in configs)
        yield f"Images keep their formats and each is a configuration of its own: {names}. Name one as second argument."
    if _is_tar(dataset):
        shards = first.paths[0].rpartition("/")[0] + "/*.tar"
        yield _python(
            "import glob, webdataset",
            f'shards = sorted(glob.glob("path/to/this/folder/{shards}"))',
            'dataset = webdataset.WebDataset(shards, shardshuffle=False).decode("pil")',
            f'image, facts = next(iter(dataset.to_tuple("{first.column}", "json")))',
        )


def _layout(dataset: Dataset) -> Iterator[str]:
    yield "## What lies here"
    yield _DATA_IS[dataset.recipe.output_format]
    yield (
        "`index/` holds a Parquet file for each chunk, with one row for every row of the list, accepted or not:\n"
        "its URL, reason, sizes, hashes and when it was fetched. `dataset.json` holds the recipe, the totals and\n"
        "the SHA-256 of the objects."
    )
    if dataset.recipe.thumbnails is not None:
        yield "`thumbnails/` holds small JPEGs of the images, one Parquet file for each chunk."


_DATA_IS = {
    OutputFormat.FILES: (
        "`data/` holds a folder for each chunk: the images, named by their row, and `metadata.parquet` with their\n"
        "captions, sizes and hashes."
    ),
    OutputFormat.WEBDATASET: (
        "`data/` holds tar shards, one for each chunk: for each row an image, a `.json` and the caption as `.txt`."
    ),
    OutputFormat.PARQUET: "`data/` holds Parquet files, one for each chunk, with the images inside.",
}


def _provenance(dataset: Dataset) -> Iterator[str]:
    recipe = dataset.recipe
    yield "## Where it comes from"
    yield (
        f"Fetched and checked by PixCrawler {_escaped(dataset.software_version)} from a list of image URLs\n"
        f"(SHA-256 `{dataset.list_digest}`), by job `{dataset.job_id}` with recipe `{recipe.digest()[:12]}`.\n"
        "The images belong to their owners; this card grants no licence to them."
    )
    yield "## Opt-out"
    yield "`robots.txt` was obeyed." if recipe.robots else "`robots.txt` was **not** consulted."
    yield _OPT_OUT_OBEYED if recipe.opt_out else "Opt-out headers were **not** consulted."


_OPT_OUT_OBEYED = (
    "Images whose answers opted out, by `X-Robots-Tag` or by a reservation of rights (TDM), were left out; the\n"
    "index keeps the directive that refused."
)


def _python(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])


def _escaped(text: str) -> str:
    """Text that Markdown and HTML take for nothing but text."""
    return "".join(f"\\{letter}" if letter in string.punctuation else letter for letter in text)
