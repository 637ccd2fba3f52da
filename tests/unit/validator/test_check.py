"""`python -m validator.check`: every hostile file costs a line that says why, and nothing hidden is stored."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from shared.reasons import Reason
from shared.recipe import Depth, Recipe
from tests import images
from validator.check import Finding, check_folder, classify
from validator.children import Limits

ROOT = Path(__file__).parents[3]
LIMITS = Limits(image_seconds=10, memory_mb=1024, chunk_seconds=300)
HIDDEN = (images.SECRET, images.GPS_TEXT, b"hidden-tail", b"Pentax")

ACCEPTED: dict[str, tuple[bytes, str, tuple[int, int]]] = {
    # file, what its bytes are, how large the picture is
    "photo.jpg": (images.jpeg(), "JPEG", images.SIZE),
    "photo.png": (images.png(), "PNG", images.SIZE),
    "photo.webp": (images.webp(), "WEBP", images.SIZE),
    "photo.gif": (images.gif(), "GIF", images.SIZE),
    "webp named png.png": (images.flat_webp(40, 30), "WEBP", (40, 30)),
    "no name at all": (images.png(), "PNG", images.SIZE),
    "lying on its side.jpg": (images.jpeg_with_exif(6), "JPEG", images.SIZE[::-1]),
    "comment.jpg": (images.with_segment(images.jpeg(), 0xFE, images.SECRET), "JPEG", images.SIZE),
    "text.png": (images.with_chunk(images.png(), b"tEXt", b"a\0" + images.SECRET), "PNG", images.SIZE),
    "tail.jpg": (images.jpeg() + images.TAIL, "JPEG", images.SIZE),
    "tail.png": (images.png() + images.TAIL, "PNG", images.SIZE),
    "tail.webp": (images.webp() + images.TAIL, "WEBP", images.SIZE),
    "tail.gif": (images.gif() + images.TAIL, "GIF", images.SIZE),
    "16 bits.png": (images.grey_png_16(), "PNG", images.SIZE),
    "cyan.jpg": (images.cmyk_jpeg(), "JPEG", images.SIZE),
}
REJECTED: dict[str, tuple[bytes, str]] = {
    # file, class of its rejection
    "empty.jpg": (b"", "empty"),
    "html.jpg": (b"<!doctype html><html><body>404</body></html>", "not_an_image"),
    "script.svg": (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "format_not_allowed"),
    "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
    "bomb.png": (images.png_bomb(), "too_many_pixels"),
    "bomb.webp": (images.flat_webp(16_000, 16_000), "too_many_pixels"),
    "screen.gif": (images.gif_of_frames(1, (40_000, 40_000)), "too_many_pixels"),
    "frames.gif": (images.gif_of_frames(30_000), "too_many_frames"),
    "scans.jpg": (images.jpeg_of_scans(1500), "too_many_scans"),
    "large with scans.jpg": (images.jpeg_of_scans(60, 7000, 7000), "too_many_scans"),
    "chunks.png": (images.png()[:33] + images.chunk(b"teSt", b"") * 20_000, "metadata_bomb"),
    "no area.png": (images.png_of(0, 8, 8, 0, b""), "bad_dimensions"),
    "signature.png": (images.png()[:8], "truncated"),
    "cut.jpg": (images.jpeg()[:-300], "truncated"),
    "false end.jpg": (images.jpeg_with_false_end(), "decode_error"),
    "checksum.png": (images.png()[:33] + images.chunk(b"tEXt", b"a\0b", checksum=1), "decode_error"),
}


async def findings(folder: Path, recipe: Recipe, limits: Limits = LIMITS, out: Path | None = None) -> list[Finding]:
    found: list[Finding] = []
    await check_folder(folder, out, recipe, limits, found.append)
    return found


def fill(folder: Path, bodies: Mapping[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    return folder


async def test_every_file_gets_the_verdict_it_deserves(tmp_path: Path) -> None:
    folder = fill(tmp_path, {name: case[0] for name, case in (ACCEPTED | REJECTED).items()})

    found = await findings(folder, Recipe())

    accepted = {one.file: (one.format, one.size) for one in found if one.verdict == "accept"}
    assert accepted == {name: (kind, size) for name, (_, kind, size) in ACCEPTED.items()}
    assert {one.file: one.reason for one in found if one.verdict == "reject"} == {
        name: reason for name, (_, reason) in REJECTED.items()
    }
    assert [one.file for one in found] == sorted(one.file for one in found)


async def test_stored_files_have_our_names_and_nothing_hidden(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {name: case[0] for name, case in ACCEPTED.items()})
    out = fill(tmp_path / "out", {})

    found = await findings(folder, Recipe(), out=out)

    extensions = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"}
    assert [one.stored for one in found] == [f"{n:09d}.{extensions[str(one.format)]}" for n, one in enumerate(found)]
    assert sorted(os.listdir(out)) == [one.stored for one in found]
    for path in out.iterdir():
        assert not [text for text in HIDDEN if text in path.read_bytes()], path


async def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {"z.png": images.png()})
    secret = fill(tmp_path / "elsewhere", {"secret.png": images.png()})
    (folder / "link.png").symlink_to(secret / "secret.png")
    (folder / "linked folder").symlink_to(secret)
    (folder / "dangling").symlink_to("/nonexistent")
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))

        found = await findings(folder, Recipe())

    assert {one.file: one.reason for one in found} == {
        "dangling": "not_a_file",
        "link.png": "not_a_file",
        "linked folder": "not_a_file",
        "pipe.png": "not_a_file",
        "socket": "not_a_file",
        "z.png": None,
    }


async def test_a_file_too_large_to_be_fetched_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.jpg").open("wb") as sparse:
        sparse.truncate(1 << 40)

    found = await findings(tmp_path, Recipe())

    assert (found[0].reason, found[0].code) == ("body_too_large", "body_too_large")


async def test_a_decoder_out_of_time_or_memory_costs_one_file(tmp_path: Path) -> None:
    endless = images.animated_png_of(90, side=6000)
    wide = images.png_of(7900, 7900, 8, 2, images.zeros((7900 * 3 + 1) * 7900))
    folder = fill(tmp_path, {"1.png": endless, "2.jpg": images.jpeg(), "3.png": wide, "4.jpg": images.jpeg()})
    limits = Limits(image_seconds=2, memory_mb=150, chunk_seconds=300)

    found = await findings(folder, Recipe(depth=Depth.FULL), limits)

    assert [one.reason for one in found] == ["timeout", None, "memory_limit", None]
    assert 2 <= found[0].seconds < 4


async def test_a_stored_file_does_not_write_through_a_link(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {"a.png": images.png()})
    out = fill(tmp_path / "out", {})
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (out / "000000000.png").symlink_to(victim)

    await findings(folder, Recipe(), out=out)

    assert victim.read_bytes() == b"untouched"
    assert (out / "000000000.png").read_bytes() == images.png()


def test_the_command_prints_a_json_line_a_file(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {"b.jpg": images.jpeg(), "c.jpg": b"<html>"})
    fill(folder / "a", {"deep.gif": images.animated("GIF")})
    (folder / os.fsdecode(b"\xff\n.png")).write_bytes(images.png())
    recipe = json.dumps({"resize_mode": "keep_ratio", "image_size": 32})

    done = command(str(folder), "--out", str(tmp_path / "out"), "--recipe", recipe)

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(lines)) == (0, 4)
    assert [line["file"] for line in lines if line["verdict"] == "reject"] == ["c.jpg"]
    assert {line["file"]: (line["size"], line["stored"]) for line in lines if line["verdict"] == "accept"} == {
        "a/deep.gif": ([48, 32], "000000003.png"),
        "b.jpg": ([48, 32], "000000000.jpg"),
        os.fsdecode(b"\xff\n.png"): ([48, 32], "000000002.png"),
    }
    assert set(lines[0]) >= {"file", "verdict", "reason", "format", "size", "seconds"}


@pytest.mark.parametrize("arguments", [["/nonexistent"], [".", "--recipe", "{"], [".", "--recipe", '{"nonsense": 1}']])
def test_a_wrong_call_is_explained(arguments: list[str]) -> None:
    done = command(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert "error: " in done.stderr


def test_a_class_is_never_coarser_than_its_reason() -> None:
    decided = {reason: classify({"reason": reason.value, "detail": None}) for reason in Reason}

    assert len(set(decided.values())) == len(Reason)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIXCRAWLER_")}
    return subprocess.run(
        [sys.executable, "-m", "validator.check", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env=environment,
    )
