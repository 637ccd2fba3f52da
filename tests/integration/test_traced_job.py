"""A traced job: one trace from the POST to the last upload, and an unexpected error that is told to Sentry."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pyarrow as pa
import pytest

from gateway.credentials import Scope
from gateway.keys import create
from pixcrawler.sample import sample_origin
from shared.pipeline import Tier
from shared.records import to_stream
from tests.architecture.tree import ROOT, SERVICES
from tests.collector import Collector
from tests.core import Board, board_at
from tests.system import System, until

pytestmark = pytest.mark.timeout(300)

_CLIENTS_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_CLIENTS_SPAN = "00f067aa0ba902b7"
#: What a collector is sent, told as JSON: the libraries to read it are not among ours.
_READ = """
import json, sys
from pathlib import Path
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
for path in sorted(Path(sys.argv[1]).iterdir()):
    for resource in ExportTraceServiceRequest.FromString(path.read_bytes()).resource_spans:
        service = {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"]
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            fields = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
            print(json.dumps({
                "service": service, "name": span.name, "trace": span.trace_id.hex(), "id": span.span_id.hex(),
                "parent": span.parent_span_id.hex(), "fields": fields, "status": span.status.message,
                "nanoseconds": span.end_time_unix_nano - span.start_time_unix_nano,
            }))
"""


@pytest.fixture
def otel(tmp_path: Path) -> Path:
    """What the extra brings, in a folder of its own: as its lock has it."""
    folder = tmp_path / "otel"
    lock = ROOT / "infra" / "requirements" / "otel.txt"
    command = [*(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes"), "-r", lock]
    subprocess.run([*command, "--target", folder], check=True, timeout=200)
    return folder


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as board:
        yield board


async def test_one_trace_leads_from_the_post_to_the_last_upload_and_errors_are_told(
    board: Board, database_url: str, redis_url: str, otel: Path, tmp_path: Path
) -> None:
    key = await create(board.engine, tenant="ours", tier=Tier.FREE, name="", scopes=tuple(Scope))
    with Collector() as spans, Collector() as errors, sample_origin(rows=504) as origin:
        asked = {
            **origin.extra_environment,
            "PIXCRAWLER_ALLOW_PORTS": "[0]",
            "PIXCRAWLER_TRACING": "true",
            "PIXCRAWLER_SENTRY_DSN": f"http://key@127.0.0.1:{errors.port}/7",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{spans.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "PYTHONPATH": str(otel),
        }
        system = System(database_url, redis_url, tmp_path, extra=asked)
        with system.running(*SERVICES) as services:
            gateway = services[SERVICES.index("gateway")]
            rows = [{"url": row.url(origin.base_url)} for row in origin.corpus.rows]
            job = await _submit(f"http://127.0.0.1:{gateway.api_port}", key, rows, tmp_path / "out")
            broken = await _job_nobody_thought_of(board, system.spool)

            async def is_all_told() -> bool:
                names = [span["name"] for span in await asyncio.to_thread(_read, spans, otel, tmp_path / "bodies")]
                return names.count("upload") >= 2 and b'"exception"' in b"".join(errors.bodies)

            await until("spans and errors have come", is_all_told, limit_seconds=90)
            for service in services:
                service.stop()
        ours = [
            span
            for span in await asyncio.to_thread(_read, spans, otel, tmp_path / "bodies")
            if span["trace"] == _CLIENTS_TRACE
        ]

    (post,) = [span for span in ours if span["name"] == "POST /v1/jobs"]
    assert (post["service"], post["parent"]) == ("pixcrawler-gateway", _CLIENTS_SPAN)
    for name, service, times in (
        ("plan", "scheduler", 1),
        ("admit", "scheduler", 2),
        ("download", "downloader", 2),
        ("validate", "validator", 2),
        ("upload", "uploader", 2),
    ):
        found = [span for span in ours if span["name"] == name]
        assert {(span["service"], span["parent"]) for span in found} == {(f"pixcrawler-{service}", post["id"])}
        assert len(found) == times
        assert {span["fields"]["job"] for span in found} == {str(job)}
        assert all(span["nanoseconds"] > 0 for span in found)
    event = _first_error(errors)
    assert {"job", "chunk", "stage", "service"} <= event["tags"].keys()
    assert event["tags"]["job"] == str(broken)
    assert key not in b"".join(errors.bodies).decode()


async def _submit(gateway: str, key: str, rows: list[dict[str, str]], destination: Path) -> UUID:
    """By a client that traces, too."""
    headers = {"Authorization": f"Bearer {key}", "traceparent": f"00-{_CLIENTS_TRACE}-{_CLIENTS_SPAN}-01"}
    asked = {"source": {"rows": rows}, "destination": {"url": str(destination)}}
    async with httpx2.AsyncClient(base_url=gateway, headers=headers, timeout=30) as client:
        answer = await client.post("/v1/jobs", json=asked)
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["id"])


async def _job_nobody_thought_of(board: Board, spool: Path) -> UUID:
    """Its plan can be read and has none of the columns."""
    plan = to_stream(pa.table({"no": ["such", "column"]}))
    (spool / "plans").mkdir(parents=True, exist_ok=True)
    (spool / "plans" / "none").write_bytes(plan)
    job = await board.job()
    await board.run("UPDATE chunks SET part_length = :length WHERE job_id = :job", length=len(plan), job=job)
    return job


def _read(collector: Collector, otel: Path, folder: Path) -> list[dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    for number, body in enumerate(list(collector.bodies)):
        (folder / f"{number:06}").write_bytes(body)
    command = [sys.executable, "-c", _READ, folder]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(otel)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _first_error(collector: Collector) -> dict[str, Any]:
    lines = (line for body in collector.bodies for line in body.decode().splitlines())
    return next(event for event in map(json.loads, lines) if "exception" in event)
