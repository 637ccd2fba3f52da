"""Each service as a container of its own, without Compose: what its image needs is in its environment, and no more."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from azure.storage.blob import ContainerClient
from testcontainers.community.postgres import PostgresContainer
from testcontainers.community.redis import RedisContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from pixcrawler import Client
from pixcrawler.sample import Origin
from tests.architecture.tree import SERVICES
from tests.containers.deployment import TAG, Deployment, docker, wait_until_healthy
from tests.containers.test_compose import assert_complete, submitted
from tests.contract.stores import AZURITE_ACCOUNT, AZURITE_KEY
from tests.servers import AZURITE_IMAGE, POSTGRES_IMAGE, REDIS_IMAGE, forbid_reaper

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

JOB_LIMIT_SECONDS = 400.0


@dataclass(frozen=True)
class Standalone:
    """The running system, as this machine reaches it."""

    gateway: str
    key: str
    store: str


@pytest.fixture(scope="module")
def standalone(system: Deployment, origin: Origin) -> Iterator[Standalone]:
    """The images that `system` built, started one by one."""
    system.compose("stop", limit_seconds=150)  # two of everything would only slow each other down
    forbid_reaper()
    with ExitStack() as running:
        network = running.enter_context(Network())
        volumes = {folder: running.enter_context(volume()) for folder in ("spool", "work", "scratch")}
        password = secrets.token_hex(8)
        running.enter_context(
            PostgresContainer(
                POSTGRES_IMAGE, username="pixcrawler", password=password, dbname="pixcrawler", driver=None
            )
            .with_network(network)
            .with_network_aliases("db")
        )
        running.enter_context(RedisContainer(REDIS_IMAGE).with_network(network).with_network_aliases("cache"))
        azurite = running.enter_context(
            DockerContainer(AZURITE_IMAGE)
            .with_command("azurite-blob --blobHost 0.0.0.0 --skipApiVersionCheck --silent --inMemoryPersistence")
            .with_exposed_ports(10000)
            .with_network(network)
            .with_network_aliases("store")
        )
        outside = f"{azurite.get_container_host_ip()}:{azurite.get_exposed_port(10000)}"
        environment = {
            "PIXCRAWLER_DATABASE_URL": f"postgresql://pixcrawler:{password}@db:5432/pixcrawler",
            "PIXCRAWLER_REDIS_URL": "redis://cache:6379/0",
            "PIXCRAWLER_AZURE_CONNECTION_STRING": connection_string("store:10000"),
            "PIXCRAWLER_LISTEN_HOST": "0.0.0.0",
            **origin.extra_environment,
        }
        migrate(running, network, environment)
        containers = {
            service: running.enter_context(container(service, network, environment, volumes)) for service in SERVICES
        }
        for each in containers.values():
            wait_until_healthy(each.get_wrapped_container().id)
        gateway = containers["gateway"]
        key = docker(
            "exec", gateway.get_wrapped_container().id, "python", "-m", "gateway.keys", "create", "--tenant=cats"
        )
        make_place(connection_string(outside))
        address = f"http://{gateway.get_container_host_ip()}:{gateway.get_exposed_port(8080)}"
        yield Standalone(address, key.strip(), connection_string(outside))


@contextmanager
def volume() -> Iterator[str]:
    """The name of a volume that lives as long as the block."""
    name = docker("volume", "create").strip()
    try:
        yield name
    finally:
        docker("volume", "rm", name)


def connection_string(server: str) -> str:
    return (
        f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};"
        f"BlobEndpoint=http://{server}/{AZURITE_ACCOUNT};"
    )


def container(
    service: str, network: Network, environment: Mapping[str, str], volumes: Mapping[str, str]
) -> DockerContainer:
    """Not started yet; read-only and as nobody, as the image wants it."""
    made = DockerContainer(f"pixcrawler-{service}:{TAG}").with_network(network)
    made.with_tmpfs_mount("/tmp").with_kwargs(read_only=True, cap_drop=["ALL"], init=True)
    for name, value in environment.items():
        made.with_env(name, value)
    for folder, name in volumes.items():
        made.with_volume_mapping(name, f"/var/lib/pixcrawler/{folder}", "rw")
    return made.with_exposed_ports(8080) if service == "gateway" else made


def migrate(running: ExitStack, network: Network, environment: Mapping[str, str]) -> None:
    once = running.enter_context(container("migration", network, environment, {}))
    assert once.get_wrapped_container().wait(timeout=120)["StatusCode"] == 0, once.get_logs()


def make_place(connection: str) -> None:
    with ContainerClient.from_connection_string(connection, "datasets") as place:
        place.create_container()


def test_services_as_single_containers_build_a_dataset(standalone: Standalone, origin: Origin, tmp_path: Path) -> None:
    with Client(standalone.gateway, standalone.key) as client:
        job = submitted(client, origin, "cats", tmp_path)
        ended = client.wait(job.id, timeout_seconds=JOB_LIMIT_SECONDS)

    assert_complete(ended, origin)
    with ContainerClient.from_connection_string(standalone.store, "datasets") as place:
        assert place.get_blob_client("cats/_SUCCESS").exists()
