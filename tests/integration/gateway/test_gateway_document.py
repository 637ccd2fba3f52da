"""Whatever is asked, an answer is one that the OpenAPI document describes, and none is our fault: Schemathesis asks.

`PIXCRAWLER_TEST_EXAMPLES=50 pytest tests/integration/gateway/test_gateway_document.py` asks longer, and in more ways.
"""

import asyncio
import os
import sys
from pathlib import Path

import httpx2
import pytest

from gateway.credentials import Scope
from gateway.problems import Code
from gateway.settings import GatewaySettings
from tests.architecture.tree import ROOT
from tests.integration.gateway.conftest import MakeKey
from tests.integration.gateway.processes import serving
from tests.integration.gateway.test_gateway_access import assert_problem
from tests.integration.gateway.test_gateway_tenants import OPERATIONS, PATH

pytestmark = pytest.mark.timeout(900)

DOCUMENT = ROOT / "docs" / "reference" / "openapi.json"
EXAMPLES = os.environ.get("PIXCRAWLER_TEST_EXAMPLES")
PHASES = "examples,coverage,fuzzing" if EXAMPLES else "fuzzing"
#: What needs more than the document to judge is left to other tests: which data is good, and whose things are whose.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


async def asked(url: str, folder: Path, *, key: str | None) -> tuple[int, str]:
    """How it ended, and its report."""
    auth = () if key is None else ("--header", f"Authorization: Bearer {key}")
    # One worker: Hypothesis reads its own source by `ast`, which Python 3.11 does not bear in two threads at once.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--no-color", "run", str(DOCUMENT), "--url", url, *auth),
        *("--checks", ",".join(CHECKS), "--phases", PHASES, "--max-examples", EXAMPLES or ("2" if key else "1")),
        *("--seed", "1", "--no-shrink", "--generation-database", "none", "--workers", "1", "--request-timeout", "60"),
        *("--suppress-health-check", "all", "--warnings", "off", "--continue-on-failure"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_every_page_names_its_methods_to_who_asks_by_another(api: httpx2.AsyncClient) -> None:
    methods: dict[str, set[str]] = {}
    for method, path in OPERATIONS.values():
        methods.setdefault(path.format_map(PATH), set()).add(method.upper())

    answers = {path: await api.request("OPTIONS", path) for path in methods}

    for path, answer in answers.items():
        assert_problem(answer, 405, Code.METHOD_NOT_ALLOWED)
        assert set(answer.headers["allow"].split(", ")) == methods[path], path


@pytest.mark.parametrize("kind", ["without a key", "with every right"])
async def test_every_answer_is_one_that_the_document_describes(
    settings: GatewaySettings, make_key: MakeKey, tmp_path: Path, kind: str
) -> None:
    key = await make_key(scopes=tuple(Scope))

    async with serving(settings, key, REQUESTS_A_MINUTE=10**6) as gateway:
        code, said = await asked(gateway.url, tmp_path, key=key if kind == "with every right" else None)

    assert code == 0, said
