"""What infra/k8s promises, and that it says what the declaration and the settings say."""

import re
from copy import deepcopy
from datetime import timedelta
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from downloader.settings import DownloaderSettings
from gateway.settings import GatewaySettings
from scheduler.settings import SchedulerSettings
from shared import metrics
from shared.pipeline import MAX_CHUNKS, PIPELINE, Stage
from shared.settings import ENV_PREFIX, Settings, WorkerSettings
from tests.architecture.tree import ROOT, SERVICES
from tests.kustomize import Manifest, build, containers
from uploader.settings import UploaderSettings
from validator.settings import ValidatorSettings

_FOLDER = ROOT / "infra" / "k8s"
OVERLAYS = sorted(path.name for path in (_FOLDER / "overlays").iterdir())
_SETTINGS: dict[str, type[Settings]] = {
    "gateway": GatewaySettings,
    "scheduler": SchedulerSettings,
    "downloader": DownloaderSettings,
    "validator": ValidatorSettings,
    "uploader": UploaderSettings,
}
#: Beyond the soft stop: to hand chunks back and to end.
_HAND_BACK = timedelta(seconds=15)
#: The oldest version that is supported: it is the first with `preStop.sleep` switched on.
_KUBERNETES = "1.30"
_WITH_PODS = ("Deployment", "StatefulSet", "Job")


@cache
def _overlay(name: str) -> tuple[Manifest, ...]:
    return tuple(build(_FOLDER / "overlays" / name))


def _of(overlay: str, kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in _overlay(overlay) if m["kind"] == kind}


def _deployment(overlay: str, service: str) -> Manifest:
    return _of(overlay, "Deployment")[f"pixcrawler-{service}"]


def _environment(overlay: str, service: str) -> dict[str, str]:
    [container] = containers(_deployment(overlay, service))
    own = {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}
    return _of(overlay, "ConfigMap")["pixcrawler-settings"]["data"] | own


def _queries() -> dict[str, list[str]]:
    """What autoscalers ask, by stage."""
    asked = {stage.name: [_trigger(stage)["query"]] for stage in PIPELINE}
    rules = yaml.safe_load((_FOLDER / "components" / "hpa" / "adapter-rules.yaml").read_text())
    for rule in rules["external"]:
        asked[rule["name"]["as"].split("_")[1]].append(rule["metricsQuery"])
    return asked


def _trigger(stage: Stage) -> dict[str, str]:
    scaled = _of("shared-volume", "ScaledObject")[f"pixcrawler-{stage.service}"]
    [trigger] = scaled["spec"]["triggers"]
    metadata: dict[str, str] = trigger["metadata"]
    return metadata


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_service_has_its_deployment_and_budget(overlay: str) -> None:
    names = {f"pixcrawler-{service}" for service in SERVICES}

    assert set(_of(overlay, "Deployment")) == names
    assert set(_of(overlay, "PodDisruptionBudget")) == names


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_are_what_kubernetes_documents(overlay: str) -> None:
    for manifest in _overlay(overlay):
        if not manifest["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(manifest, _KUBERNETES, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    wrong = deepcopy(_deployment("shared-volume", "gateway"))
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 30

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, _KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_is_a_setting_that_takes_its_value(overlay: str, service: str) -> None:
    environment = _environment(overlay, service)
    known = {f"{ENV_PREFIX}{name}".upper() for settings in _SETTINGS.values() for name in settings.model_fields}

    unknown = environment.keys() - known

    assert unknown == set()


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("service", SERVICES)
def test_services_accept_their_settings(overlay: str, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _environment(overlay, service).items():
        monkeypatch.setenv(name, value or "2")  # from the pod's limits

    settings = _SETTINGS[service]()

    assert settings.http_port == 9464
    assert settings.http_host == "0.0.0.0"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_hardened(overlay: str) -> None:
    for manifest in (m for m in _overlay(overlay) if m["kind"] in _WITH_PODS):
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False, "a Service's variables begin with PIXCRAWLER_, too"
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_manifest_holds_a_secret(overlay: str) -> None:
    assert _of(overlay, "Secret") == {}
    text = yaml.safe_dump(list(_overlay(overlay)))
    assert not re.search(r"://[^/\s]*:[^/\s]*@", text), "a password in an address"


@pytest.mark.parametrize("service", SERVICES)
def test_a_supervisor_asks_the_service_itself(service: str) -> None:
    [container] = containers(_deployment("shared-volume", service))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    asked = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}

    assert ports["health"] == 9464
    assert {name: get["path"] for name, get in asked.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    assert {get["port"] for get in asked.values()} == {"health"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_take_as_long_to_start_as_it_waits_for_its_servers(service: str) -> None:
    [container] = containers(_deployment("shared-volume", service))
    probe = container["startupProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] > Settings().startup_timeout_seconds


@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
def test_a_stage_is_given_the_time_to_hand_its_chunks_back(stage: Stage) -> None:
    pod = _deployment("shared-volume", stage.service)["spec"]["template"]["spec"]

    assert timedelta(seconds=pod["terminationGracePeriodSeconds"]) >= stage.soft_stop + _HAND_BACK


@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
def test_a_stage_is_labelled_as_declared(stage: Stage) -> None:
    manifest = _deployment("shared-volume", stage.service)

    assert manifest["metadata"]["labels"]["pixcrawler/stage"] == stage.name
    assert manifest["spec"]["template"]["metadata"]["labels"]["pixcrawler/stage"] == stage.name


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
def test_each_stage_has_a_work_area_that_the_next_one_can_read(overlay: str, stage: Stage) -> None:
    pod = _deployment(overlay, stage.service)["spec"]["template"]["spec"]
    [mount] = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "work"]
    [volume] = [v for v in pod["volumes"] if v["name"] == "work"]
    environment = _environment(overlay, stage.service)

    is_shared = "persistentVolumeClaim" in volume

    assert mount["mountPath"] == environment["PIXCRAWLER_WORK_DIR"]
    assert is_shared != ("PIXCRAWLER_WORK_URL" in environment)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_volume_that_is_mounted_is_there(overlay: str) -> None:
    claims = set(_of(overlay, "PersistentVolumeClaim"))
    for manifest in (m for m in _overlay(overlay) if m["kind"] in _WITH_PODS):
        pod = manifest["spec"]["template"]["spec"]
        templates = {t["metadata"]["name"] for t in manifest["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == volumes.keys() | templates
        claimed = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}
        assert claimed <= claims


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_the_pods_they_mean(overlay: str) -> None:
    for manifest in _overlay(overlay):
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            wanted = manifest["spec"]["selector"]["matchLabels"].items()
            assert wanted <= manifest["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name != "single-node"])
def test_one_autoscaler_scales_each_stage_and_the_gateway(overlay: str) -> None:
    scaled = [
        m["spec"]["scaleTargetRef"]["name"]
        for m in _overlay(overlay)
        if m["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    ]

    assert sorted(scaled) == sorted(f"pixcrawler-{name}" for name in ("gateway", *(s.service for s in PIPELINE)))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_an_autoscaler_sets_nobody_else_sets(overlay: str) -> None:
    assert {n for n, m in _of(overlay, "Deployment").items() if "replicas" in m["spec"]} == {"pixcrawler-scheduler"}


@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
def test_autoscalers_count_the_chunks_that_wait_for_a_stage_and_are_in_its_hands(stage: Stage) -> None:
    asked = _queries()[stage.name]

    assert all(f'state=~"{stage.ready}|{stage.running}"' in query for query in asked)


def test_autoscalers_ask_for_metrics_that_there_are() -> None:
    known = {value.describe()[0].name for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)}

    asked = {
        name for queries in _queries().values() for query in queries for name in re.findall(r"pixcrawler_\w+", query)
    }

    assert asked
    assert asked <= known


@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
def test_no_stage_grows_beyond_what_slots_can_fill(stage: Stage) -> None:
    scaled = _of("shared-volume", "ScaledObject")[f"pixcrawler-{stage.service}"]["spec"]
    in_a_pod = int(_trigger(stage)["threshold"])
    settings = _SETTINGS[stage.service]
    assert issubclass(settings, WorkerSettings)
    [container] = containers(_deployment("shared-volume", stage.service))
    concurrency = container["resources"]["limits"]["cpu"] if stage.service == "validator" else settings().concurrency

    assert in_a_pod == int(concurrency)
    assert (scaled["maxReplicaCount"] - 1) * in_a_pod <= MAX_CHUNKS
    assert scaled["cooldownPeriod"] <= stage.deadline.total_seconds()


#: keda.sh/v1alpha1 ScaledObject, the fields that its documentation names and what they hold.
_KEDA: dict[str, Any] = {
    "scaleTargetRef": {"name": str},
    "pollingInterval": int,
    "cooldownPeriod": int,
    "minReplicaCount": int,
    "maxReplicaCount": int,
    "fallback": {"failureThreshold": int, "replicas": int},
    "advanced": {"horizontalPodAutoscalerConfig": {"behavior": dict}},
    "triggers": [
        {
            "type": str,
            "metricType": str,
            "metadata": {"serverAddress": str, "query": str, "threshold": str, "ignoreNullValues": str},
        }
    ],
}


@pytest.mark.parametrize("overlay", ["shared-volume", "separate-disks"])
def test_scaled_objects_are_what_keda_documents(overlay: str) -> None:
    for scaled in _of(overlay, "ScaledObject").values():
        assert scaled["apiVersion"] == "keda.sh/v1alpha1"
        assert _mistakes(scaled["spec"], _KEDA, "spec") == []


def _mistakes(value: Any, schema: Any, place: str) -> list[str]:
    if isinstance(schema, dict):
        unknown = [f"{place}.{key} is unknown" for key in value if key not in schema]
        missing = [f"{place}.{key} is missing" for key in schema if key not in value]
        known = [
            m for key in schema.keys() & value.keys() for m in _mistakes(value[key], schema[key], f"{place}.{key}")
        ]
        return unknown + missing + known
    if isinstance(schema, list):
        return [m for item in value for m in _mistakes(item, schema[0], place)]
    return [] if isinstance(value, schema) else [f"{place} is {value!r}"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_the_gateway_is_reached_and_every_pod_is_bound_by_a_policy(overlay: str) -> None:
    policies = _of(overlay, "NetworkPolicy")

    everybody = policies["pixcrawler-inward"]["spec"]
    clients = policies["pixcrawler-clients"]["spec"]
    outward = policies["pixcrawler-outward"]["spec"]["podSelector"]["matchExpressions"][0]["values"]

    assert everybody["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "pixcrawler"}
    assert [port["port"] for rule in everybody["ingress"] for port in rule["ports"]] == [9464]
    assert clients["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    assert [port["port"] for rule in clients["ingress"] for port in rule["ports"]] == [GatewaySettings().listen_port]
    assert {*outward, "downloader"} == {*SERVICES, "migration"}


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name != "single-node"])
def test_images_are_of_one_version(overlay: str) -> None:
    images = {c["image"] for m in _overlay(overlay) for c in containers(m)}

    assert len({image.partition(":")[2] for image in images}) == 1
    assert not any(image.endswith((":", ":latest")) for image in images)
