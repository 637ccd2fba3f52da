"""Settings: all mistakes at once, by variable; secrets are never printed."""

import pytest
from pydantic import ValidationError

from shared.settings import EXIT_CONFIG, Settings, WorkerSettings

WRONG = {
    "DATABASE_URL": "mysql://root:hunter2@host/db",
    "REDIS_URL": "http://:hunter2@host",
    "HTTP_PORT": "many",
    "CELL": "Cell One",
    "CONCURRENCY": "0",
    "LOG_FORMAT": "xml",
}


def test_every_mistake_is_told_at_once_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in WRONG.items():
        monkeypatch.setenv(f"PIXCRAWLER_{name}", value)

    with pytest.raises(SystemExit) as ended:
        WorkerSettings.load()

    said = capsys.readouterr().err
    assert ended.value.code == EXIT_CONFIG
    assert [line.split(":")[0].strip() for line in said.splitlines()[1:]] == sorted(
        (f"PIXCRAWLER_{name}" for name in WRONG), key=said.index
    )
    assert "hunter2" not in said
    assert "Value error" not in said


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXCRAWLER_DATABASE_URL", "postgresql://u:hunter2@h/d")
    monkeypatch.setenv("PIXCRAWLER_BROKER_URL", "amqp://u:hunter2@h//")
    monkeypatch.setenv("PIXCRAWLER_S3_SECRET_ACCESS_KEY", "hunter2")

    monkeypatch.setenv("PIXCRAWLER_BELL_KEY", "hunter2" * 5)
    monkeypatch.setenv("PIXCRAWLER_BELL_KEY_OLD", "hunter2" * 6)

    settings = Settings.load()

    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()}"
    assert settings.broker() == "amqp://u:hunter2@h//"


def test_the_broker_is_the_redis_when_none_is_named() -> None:
    assert Settings.model_validate({"redis_url": "redis://h/3"}).broker() == "redis://h/3"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"bell_key": "hunter2"}, "bell_key"), ({"bell_key_old": "hunter2" * 5}, "PIXCRAWLER_BELL_KEY beside it")],
)
def test_a_short_key_and_an_old_key_alone_are_mistakes(wrong: dict[str, str], named: str) -> None:
    with pytest.raises(ValidationError, match=named) as refused:
        Settings.model_validate(wrong)

    assert "hunter2" not in str(refused.value)


def test_all_clients_are_told_to_check_the_certificate_of_a_rediss() -> None:
    settings = Settings.model_validate({"redis_url": "rediss://u:p@h:6380/0?ssl_ca_certs=/etc/ca.pem"})

    checked = "rediss://u:p@h:6380/0?ssl_ca_certs=%2Fetc%2Fca.pem&ssl_cert_reqs=required&ssl_check_hostname=true"
    assert settings.redis_url.get_secret_value() == settings.broker() == checked


@pytest.mark.parametrize("name", ["redis_url", "broker_url"])
@pytest.mark.parametrize("careless", ["ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE", "ssl_check_hostname=False"])
def test_a_rediss_that_checks_nothing_is_a_mistake(name: str, careless: str) -> None:
    with pytest.raises(ValidationError, match="certificate") as refused:
        Settings.model_validate({name: f"rediss://u:hunter2@h/0?{careless}"})

    assert "hunter2" not in str(refused.value)


def test_every_default_is_good() -> None:
    assert WorkerSettings.load().concurrency == 7


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://u:hunter2@h:5672/v?heartbeat=0", "may say ssl_ca_certs and nothing else, not heartbeat"),
        ("amqp:///v", "must be amqp://user:password@host:port/vhost"),
        ("http://u:hunter2@h", "must be amqp://, amqps://, redis://"),
    ],
)
def test_a_brokers_address_that_cannot_be_meant_is_a_mistake(url: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as refused:
        Settings.model_validate({"broker_url": url})

    assert "hunter2" not in str(refused.value)


def test_a_worker_cannot_grow_by_itself_where_rabbitmq_pushes() -> None:
    with pytest.raises(ValidationError, match="least_concurrency cannot be had with RabbitMQ"):
        WorkerSettings.model_validate({"broker_url": "amqp://h//", "least_concurrency": 1})
