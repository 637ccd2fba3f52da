"""The loaders people train with read what we write: Hugging Face `datasets` and `webdataset`, without a network."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from shared.card import card
from shared.index import index_of_open_rows, to_parquet
from shared.papers import CARD_KEY, MANIFEST_KEY, SUCCESS_KEY, Dataset, PaperState, manifest, success
from shared.reasons import Reason
from shared.recipe import ImageFormat, ImageKind, OutputFormat, Recipe
from shared.storage.memory import MemoryStore
from tests.upload_bench import DATASET, JOB, Bench, Row, gif, jpeg, missing, png, webp

# `datasets` leaves files open behind the pictures it hands out.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

SAVED = [
    pa.field("score", pa.float32()),
    pa.field("tags", pa.list_(pa.string())),
    pa.field("box", pa.struct([pa.field("x", pa.int16()), pa.field("y", pa.int16())])),
    pa.field("source_file_name", pa.string()),
    pa.field("seen", pa.timestamp("ms", tz="UTC")),
]
#: The first five rows tell a loader as little as can be: no caption, no tags, no score.
FIRST_CHUNK = [jpeg(20 + place) for place in range(5)] + [
    jpeg(31, caption="an awkward\r\ncaption, \x1b[31m=1+1", saved={"tags": ["a", "b"], "score": 1.5}),
    missing(),
]
MIXED_CHUNK = [
    png(41, saved={"box": {"x": 1, "y": None}}),
    webp(42, caption="größer"),
    jpeg(43, saved={"source_file_name": "IMG_1.JPG"}),
    gif(44),
    jpeg(20),
    missing(),
]
MIXED_BUT_ONE = [jpeg(51), missing()]
CHUNKS: Sequence[Sequence[Row]] = [FIRST_CHUNK, MIXED_CHUNK, [missing(), missing()], MIXED_BUT_ONE]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The library, which reads its environment when it is imported."""
    home = tmp_path_factory.mktemp("huggingface")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(home))
        import datasets

        patch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")
        datasets.disable_progress_bars()
        yield datasets


async def build(root: Path, recipe: Recipe, chunks: Sequence[Sequence[Row]] = CHUNKS, **more: Any) -> Dataset:
    """A finished dataset in a folder, as the services leave it."""
    bench = Bench(root / "work")
    passed, rejected, first_row = 0, dict[str, int](), 0
    for ordinal, rows in enumerate(chunks):
        chunk = await bench.chunk(rows, recipe=recipe, saved=SAVED, first_row=first_row, ordinal=ordinal)
        result = await chunk.upload()
        passed += result.passed
        rejected = {key: rejected.get(key, 0) + result.rejected.get(key, 0) for key in {*rejected, *result.rejected}}
        first_row += len(rows)
    dataset = Dataset(
        dataset_id=DATASET,
        job_id=JOB,
        revision=0,
        name="Cats: \"the\" # 1 --- 'best'\n- x: y",
        state=PaperState.COMPLETE,
        recipe=recipe,
        list_digest=hashlib.sha256(b"list").hexdigest(),
        software_version="0.1.0",
        rows=first_row,
        accepted=passed,
        rejected=rejected,
        saved=SAVED,
        objects=list(bench.objects.values()),
    )
    papers = {CARD_KEY: card(dataset), MANIFEST_KEY: manifest(dataset), SUCCESS_KEY: success(dataset)}
    spread(bench.memory, root / "dataset", papers)
    return dataset


def spread(store: MemoryStore, folder: Path, papers: Mapping[str, bytes]) -> None:
    bodies = {key: held.body for key, held in store.objects.items()} | papers
    for key, body in bodies.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def recipe_of(output: OutputFormat, image: ImageFormat | None = None) -> Recipe:
    return Recipe(output_format=output, image_format=image)


def as_jpeg(rows: Sequence[Row]) -> list[Row]:
    """The rows as a validator leaves them that was asked for JPEG."""
    return [row if row.fetch_reason else replace(row, kind=ImageKind.JPEG, derived=_jpeg(row.body)) for row in rows]


def _jpeg(body: bytes) -> bytes:
    sink = io.BytesIO()
    Image.open(io.BytesIO(body)).convert("RGB").save(sink, "JPEG")
    return sink.getvalue()


@pytest.mark.parametrize("output", [OutputFormat.FILES, OutputFormat.PARQUET])
async def test_hugging_face_loads_every_accepted_image_of_every_format(
    tmp_path: Path, datasets: Any, output: OutputFormat
) -> None:
    dataset = await build(tmp_path, recipe_of(output))

    loaded = datasets.load_dataset(str(tmp_path / "dataset"), split="train")

    assert len(loaded) == dataset.accepted == 11
    sizes = sorted(sample["image"].size[0] for sample in loaded)
    assert sizes == [20, 21, 22, 23, 24, 31, 41, 42, 43, 44, 51]
    assert {sample["image"].format for sample in loaded} == {"JPEG", "PNG", "WEBP", "GIF"}


@pytest.mark.parametrize("output", [OutputFormat.FILES, OutputFormat.PARQUET])
async def test_hugging_face_sees_captions_and_saved_columns_with_their_types(
    tmp_path: Path, datasets: Any, output: OutputFormat
) -> None:
    await build(tmp_path, recipe_of(output))

    loaded = datasets.load_dataset(str(tmp_path / "dataset"), split="train")
    by_row = {sample["row"]: sample for sample in loaded}

    assert loaded.features["score"].dtype == "float32"
    assert by_row[5]["caption"] == "an awkward\r\ncaption, \x1b[31m=1+1"
    assert (by_row[5]["tags"], by_row[5]["score"]) == (["a", "b"], 1.5)
    assert by_row[7]["box"] == {"x": 1, "y": None}
    renamed = "source_file_name_" if output is OutputFormat.FILES else "source_file_name"
    assert by_row[9][renamed] == "IMG_1.JPG"


@pytest.mark.parametrize("streaming", [False, True])
async def test_hugging_face_loads_every_image_of_tar_shards(tmp_path: Path, datasets: Any, streaming: bool) -> None:
    dataset = await build(tmp_path, recipe_of(OutputFormat.WEBDATASET), [as_jpeg(rows) for rows in CHUNKS])

    loaded = list(datasets.load_dataset(str(tmp_path / "dataset"), split="train", streaming=streaming))

    assert len(loaded) == dataset.accepted == 11
    assert all(sample["jpg"].format == "JPEG" for sample in loaded)
    awkward = next(sample for sample in loaded if sample["json"]["row"] == 5)
    assert awkward["txt"] == awkward["json"]["caption"] == "an awkward\r\ncaption, \x1b[31m=1+1"
    assert awkward["json"]["tags"] == ["a", "b"]


async def test_hugging_face_loads_kept_formats_as_configurations_of_their_own(tmp_path: Path, datasets: Any) -> None:
    dataset = await build(tmp_path, recipe_of(OutputFormat.WEBDATASET, ImageFormat.ORIGINAL))
    folder = str(tmp_path / "dataset")

    names = datasets.get_dataset_config_names(folder)
    loaded = {name: datasets.load_dataset(folder, name, split="train") for name in names}
    unnamed = datasets.load_dataset(folder, split="train")

    assert {name: len(samples) for name, samples in loaded.items()} == {"jpg": 8, "png": 1, "webp": 1, "gif": 1}
    assert all(sample[name] is not None for name, samples in loaded.items() for sample in samples)
    assert sum(map(len, loaded.values())) == dataset.accepted
    assert len(unnamed) == 8


async def test_what_a_failed_chunk_left_behind_is_not_loaded(tmp_path: Path, datasets: Any) -> None:
    recipe = recipe_of(OutputFormat.FILES)
    dataset = await build(tmp_path, recipe, [FIRST_CHUNK, MIXED_CHUNK])
    # The second chunk had stored its images and then ran out of attempts: its index says so, and nothing was recorded.
    source = await (await Bench(tmp_path / "more").chunk(MIXED_CHUNK, recipe=recipe, first_row=7, ordinal=1)).source()
    failed = index_of_open_rows(source, Reason.CHUNK_FAILED, revision=0)
    (tmp_path / "dataset/index/r000-000001.parquet").write_bytes(to_parquet(failed))
    told = replace(
        dataset,
        accepted=6,
        rejected={"http_not_found": 1, "chunk_failed": 6},
        objects=[item for item in dataset.objects if "000001" not in item.key],
    )
    (tmp_path / "dataset" / CARD_KEY).write_bytes(card(told))

    loaded = datasets.load_dataset(str(tmp_path / "dataset"), split="train")

    assert len(loaded) == 6


async def test_webdataset_reads_every_sample(tmp_path: Path) -> None:
    import webdataset

    dataset = await build(tmp_path, recipe_of(OutputFormat.WEBDATASET), [as_jpeg(rows) for rows in CHUNKS])
    shards = [str(path) for path in sorted((tmp_path / "dataset/data").glob("*.tar"))]

    pipeline = webdataset.WebDataset(shards, shardshuffle=False).decode("pil")
    samples = [(image, facts) for image, facts in pipeline.to_tuple("jpg", "json")]

    assert len(samples) == dataset.accepted
    assert [facts["row"] for _, facts in samples] == sorted(facts["row"] for _, facts in samples)
    assert {tuple(facts) for _, facts in samples} == {tuple(samples[0][1])}
    assert None not in [value for _, facts in samples for value in facts.values()]


async def test_the_manifest_names_every_object_by_its_hash(tmp_path: Path) -> None:
    await build(tmp_path, recipe_of(OutputFormat.PARQUET))

    told = json.loads((tmp_path / "dataset" / MANIFEST_KEY).read_bytes())["objects"]

    folder = tmp_path / "dataset"
    lying = {str(path.relative_to(folder)) for path in folder.rglob("*.parquet")}
    assert {item["key"] for item in told} == lying
    for item in told:
        body = (folder / item["key"]).read_bytes()
        assert (len(body), hashlib.sha256(body).hexdigest()) == (item["bytes"], item["sha256"])
