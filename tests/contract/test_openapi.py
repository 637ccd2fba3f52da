"""The OpenAPI document: valid, complete, and what clients were written against."""

from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway.app import create_app
from gateway.problems import MEDIA_TYPE, Code
from gateway.settings import GatewaySettings
from shared.pipeline import PIPELINE, JobState
from shared.reasons import Reason
from shared.recipe import Recipe

OPERATIONS = {
    "submitJob": ("post", "/v1/jobs"),
    "listJobs": ("get", "/v1/jobs"),
    "getJob": ("get", "/v1/jobs/{job_id}"),
    "deleteJob": ("delete", "/v1/jobs/{job_id}"),
    "cancelJob": ("post", "/v1/jobs/{job_id}/cancel"),
    "pauseJob": ("post", "/v1/jobs/{job_id}/pause"),
    "resumeJob": ("post", "/v1/jobs/{job_id}/resume"),
    "appendToJob": ("post", "/v1/jobs/{job_id}/append"),
    "retryJob": ("post", "/v1/jobs/{job_id}/retry"),
    "refreshJob": ("post", "/v1/jobs/{job_id}/refresh"),
    "cloneJob": ("post", "/v1/jobs/{job_id}/clone"),
    "listImages": ("get", "/v1/jobs/{job_id}/images"),
    "listObjects": ("get", "/v1/jobs/{job_id}/objects"),
    "getStatistics": ("get", "/v1/jobs/{job_id}/statistics"),
    "getThumbnail": ("get", "/v1/jobs/{job_id}/images/{row}/thumbnail"),
    "streamJob": ("get", "/v1/jobs/{job_id}/events"),
    "uploadManifest": ("post", "/v1/manifests"),
    "createWebhook": ("post", "/v1/webhooks"),
    "listWebhooks": ("get", "/v1/webhooks"),
    "getWebhook": ("get", "/v1/webhooks/{webhook_id}"),
    "deleteWebhook": ("delete", "/v1/webhooks/{webhook_id}"),
    "rotateWebhookSecret": ("post", "/v1/webhooks/{webhook_id}/rotate"),
    "enableWebhook": ("post", "/v1/webhooks/{webhook_id}/enable"),
    "testWebhook": ("post", "/v1/webhooks/{webhook_id}/test"),
    "listDeliveries": ("get", "/v1/webhooks/{webhook_id}/deliveries"),
    "redeliver": ("post", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver"),
    "beginUpload": ("post", "/v1/uploads"),
    "getUpload": ("get", "/v1/uploads/{upload_id}"),
    "sendPart": ("patch", "/v1/uploads/{upload_id}"),
    "completeUpload": ("post", "/v1/uploads/{upload_id}/complete"),
    "abandonUpload": ("delete", "/v1/uploads/{upload_id}"),
    "checkManifest": ("post", "/v1/manifests/{manifest_id}/check"),
    "getManifestCheck": ("get", "/v1/manifests/{manifest_id}/checks/{check_id}"),
    "takeDown": ("post", "/v1/admin/takedowns"),
    "listTakedowns": ("get", "/v1/admin/takedowns"),
    "liftTakedown": ("delete", "/v1/admin/takedowns/{takedown_id}"),
    "listFailedChunks": ("get", "/v1/admin/failed-chunks"),
    "getFailedChunk": ("get", "/v1/admin/failed-chunks/{chunk_id}"),
    "redriveChunks": ("post", "/v1/admin/failed-chunks/redrive"),
    "dropChunks": ("post", "/v1/admin/failed-chunks/drop"),
    "listPoisonMessages": ("get", "/v1/admin/poison-messages"),
    "dropPoisonMessage": ("delete", "/v1/admin/poison-messages/{poison_id}"),
    "listTenants": ("get", "/v1/admin/tenants"),
    "createTenant": ("post", "/v1/admin/tenants"),
    "getTenant": ("get", "/v1/admin/tenants/{tenant_id}"),
    "changeTenant": ("patch", "/v1/admin/tenants/{tenant_id}"),
    "listKeys": ("get", "/v1/admin/keys"),
    "createKey": ("post", "/v1/admin/keys"),
    "rotateKey": ("post", "/v1/admin/keys/{key_id}/rotate"),
    "revokeKey": ("delete", "/v1/admin/keys/{key_id}"),
    "listStages": ("get", "/v1/admin/stages"),
    "pauseStage": ("post", "/v1/admin/stages/{stage}/pause"),
    "resumeStage": ("post", "/v1/admin/stages/{stage}/resume"),
    "listSlots": ("get", "/v1/admin/slots"),
    "listCalendar": ("get", "/v1/admin/calendar"),
    "addCalendarEntry": ("post", "/v1/admin/calendar"),
    "removeCalendarEntry": ("delete", "/v1/admin/calendar/{name}"),
    "pauseCalendarEntry": ("post", "/v1/admin/calendar/{name}/pause"),
    "resumeCalendarEntry": ("post", "/v1/admin/calendar/{name}/resume"),
    "runCalendarEntry": ("post", "/v1/admin/calendar/{name}/run"),
    "getMe": ("get", "/v1/me"),
    "getLive": ("get", "/livez"),
    "getReady": ("get", "/readyz"),
}
OPEN = {"getLive", "getReady"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(GatewaySettings()).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)


def test_every_operation_has_the_name_that_clients_use(document: dict[str, Any]) -> None:
    found = {operation["operationId"]: (method, path) for method, path, operation in operations(document)}

    assert found == OPERATIONS


def test_every_operation_but_the_checks_needs_a_key(document: dict[str, Any]) -> None:
    needs = {operation["operationId"] for _, _, operation in operations(document) if "security" in operation}
    schemes = {name: scheme["type"] for name, scheme in document["components"]["securitySchemes"].items()}

    assert needs == set(OPERATIONS) - OPEN
    assert schemes == {"bearer": "http", "header": "apiKey"}


def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    for _, _, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400 and operation["operationId"] not in OPEN:
                assert list(response["content"]) == [MEDIA_TYPE]
                assert response["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_every_operation_with_a_key_names_the_common_refusals(document: dict[str, Any]) -> None:
    for _, _, operation in operations(document):
        if operation["operationId"] not in OPEN:
            assert {"400", "401", "403", "422", "429", "500", "503"} <= set(operation["responses"])


#: The answer with a new key must be kept nowhere.
NOT_REPEATED = {"createKey", "rotateKey"}


def test_every_post_but_some_heeds_an_idempotency_key(document: dict[str, Any]) -> None:
    for method, _, operation in operations(document):
        if method == "post" and operation["operationId"] not in NOT_REPEATED:
            names = {parameter["name"] for parameter in operation["parameters"]}
            assert "Idempotency-Key" in names, operation["operationId"]
            assert {"409", "413", "422"} <= set(operation["responses"])


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    for _, _, operation in operations(document):
        assert operation["description"], operation["operationId"]
        assert operation["tags"], operation["operationId"]


def test_codes_states_reasons_and_recipe_are_those_of_the_code(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    assert schemas["Code"]["enum"] == list(Code)
    assert schemas["JobState"]["enum"] == list(JobState)
    assert schemas["Reason"]["enum"] == list(Reason)
    assert set(schemas["Recipe"]["properties"]) == set(Recipe.model_fields)


def test_a_job_has_the_fields_that_clients_read(document: dict[str, Any]) -> None:
    job = document["components"]["schemas"]["JobOut"]

    assert set(job["required"]) == {
        *("id", "dataset_id", "revision", "kind", "name", "state", "destination", "recipe", "created_at"),
        *("started_at", "finished_at", "rows", "planned", "accepted", "rejected", "refreshed", "stored_bytes"),
        *("progress", "images_per_second", "seconds_left", "chunks_ahead", "waiting_for", "error", "urls"),
    }
    assert all(stage.name in job["properties"]["progress"]["description"] for stage in PIPELINE)


def test_requests_forbid_unknown_fields(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    for name in (
        "JobIn",
        "AppendIn",
        "RetryIn",
        "RefreshIn",
        "CloneIn",
        "CheckIn",
        "CompleteIn",
        "UploadIn",
        "Source",
        "ListOptions",
        "DestinationIn",
        "Recipe",
        "TakedownIn",
    ):
        assert schemas[name]["additionalProperties"] is False


def test_the_example_of_a_job_is_one_that_is_accepted(document: dict[str, Any]) -> None:
    from gateway.schemas import JobIn

    (example,) = document["components"]["schemas"]["JobIn"]["examples"]

    assert JobIn.model_validate(example).recipe.min_image_size == 64
