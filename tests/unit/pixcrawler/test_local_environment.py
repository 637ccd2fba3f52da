import json
from pathlib import Path

import pixcrawler
from pixcrawler.local import Home
from pixcrawler.local.environment import Place, common, counting, of_service

HOME = Home(Path("/home/ada/.local/share/pixcrawler"))


def environment(**variables: str) -> dict[str, str]:
    return common(variables, HOME, database_url="postgresql://p", redis_url="redis://r")


def test_services_get_addresses_and_folders() -> None:
    given = environment()

    assert given["PIXCRAWLER_DATABASE_URL"] == "postgresql://p"
    assert given["PIXCRAWLER_REDIS_URL"] == "redis://r"
    assert given["PIXCRAWLER_SPOOL_URL"] == str(HOME.spool)
    assert json.loads(given["PIXCRAWLER_FOLDER_ROOTS"]) == ["/"]
    assert json.loads(given["PIXCRAWLER_RESERVED_FOLDERS"]) == [str(HOME.folder), str(HOME.postgres)]


def test_the_users_settings_hold_unless_the_stack_has_to_decide() -> None:
    given = environment(
        PIXCRAWLER_LOG_LEVEL="debug", PIXCRAWLER_DATABASE_URL="postgresql://mine", PIXCRAWLER_BROKER_URL="amqp://mine"
    )

    assert given["PIXCRAWLER_LOG_LEVEL"] == "debug"
    assert given["PIXCRAWLER_DATABASE_URL"] == "postgresql://p"
    assert "PIXCRAWLER_BROKER_URL" not in given


def test_only_what_is_known_to_be_needed_comes_along() -> None:
    given = environment(
        PATH="/bin", AWS_PROFILE="p", AZURE_TENANT_ID="t", CELERY_BROKER_URL="x", PYTHONPATH="/work", PGHOST="db"
    )

    assert given["PATH"] == "/bin"
    assert given["AWS_PROFILE"] == "p"
    assert given["AZURE_TENANT_ID"] == "t"
    assert not {"CELERY_BROKER_URL", "PYTHONPATH", "PGHOST"} & given.keys()


def test_the_entry_that_holds_pixcrawler_itself_is_kept_of_the_import_path() -> None:
    root = Path(pixcrawler.__file__).resolve().parents[1]

    assert environment(PYTHONPATH=f"/work:{root}")["PYTHONPATH"] == str(root)


def test_settings_of_the_client_do_not_count() -> None:
    assert counting(
        {"PIXCRAWLER_HOME": "/h", "PIXCRAWLER_API_KEY": "k", "PIXCRAWLER_S3_REGION": "eu", "EDITOR": "vi"}
    ) == {"PIXCRAWLER_S3_REGION": "eu"}


def test_each_service_gets_its_own_ports_and_concurrency() -> None:
    gateway = of_service(environment(), Place(health_port=1, listen_port=2))
    downloader = of_service(environment(), Place(health_port=3, concurrency=2))

    assert (gateway["PIXCRAWLER_HTTP_PORT"], gateway["PIXCRAWLER_LISTEN_PORT"]) == ("1", "2")
    assert gateway["PIXCRAWLER_LISTEN_HOST"] == "127.0.0.1"
    assert (downloader["PIXCRAWLER_HTTP_PORT"], downloader["PIXCRAWLER_CONCURRENCY"]) == ("3", "2")
    assert "PIXCRAWLER_LISTEN_PORT" not in downloader
