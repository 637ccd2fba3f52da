"""The gateway by uvicorn's own workers, for those who do not start `python -m gateway`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import httpx2
import pytest

from tests.servers import free_port
from tests.system import until


@pytest.mark.timeout(300)  # three interpreters that import everything
async def test_uvicorns_own_workers_serve_the_gateway_and_stop_when_asked(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    port = free_port()
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "--factory", "gateway.asgi:app", "--workers", "2", "--port", str(port)),
        *("--timeout-graceful-shutdown", "5", "--no-access-log"),
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PIXCRAWLER_")},
            "PIXCRAWLER_DATABASE_URL": database_url,
            "PIXCRAWLER_REDIS_URL": redis_url,
            "PIXCRAWLER_SPOOL_URL": str(tmp_path / "spool"),
            "PIXCRAWLER_WORK_DIR": str(tmp_path / "work"),
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def is_ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await until("it is ready", is_ready, limit_seconds=120)
            answer = await client.get("/v1/me")

        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        server.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(server.wait(), 60) == 0
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
