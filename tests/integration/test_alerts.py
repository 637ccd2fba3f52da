"""The shipped Prometheus files, judged by Prometheus's own tool."""

import pytest
import yaml  # type: ignore[import-untyped]

from tests.architecture.tree import ROOT
from tests.monitoring import promtool, read_all

FILES = read_all(ROOT / "infra" / "prometheus")


@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")], ids=" ".join
)
def test_prometheus_finds_nothing_wrong(arguments: tuple[str, ...]) -> None:
    code, said = promtool(FILES, *arguments)

    assert code == 0, said
    assert "SUCCESS" in said


def test_a_rule_that_does_not_hold_is_found() -> None:
    wrong = FILES | {"alerts.yml": FILES["alerts.yml"].replace("expr: up == 0", "expr: up == 1")}

    code, said = promtool(wrong, "test", "rules", "alerts_test.yml")

    assert code != 0
    assert "ServiceDown" in said


def test_every_alert_is_seen_firing_and_keeping_quiet() -> None:
    rules = [rule for group in yaml.safe_load(FILES["alerts.yml"])["groups"] for rule in group["rules"]]
    cases = [case for test in yaml.safe_load(FILES["alerts_test.yml"])["tests"] for case in test["alert_rule_test"]]

    fired = {case["alertname"] for case in cases if case["exp_alerts"]}

    assert {rule["alert"] for rule in rules} == fired
