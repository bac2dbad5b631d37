"""The OpenAPI description: valid, and the server keeps to it whatever schemathesis makes of it."""

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from labelstudio_sam2.sam2_api.openapi import openapi_document

OPERATIONS = [(path, method) for path, operations in openapi_document("0")["paths"].items() for method in operations]
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture(scope="module")
def app(make_nano_app: Callable[..., Flask]) -> Flask:
    return make_nano_app(api_key="key")


@pytest.fixture(scope="module")
def described(app: Flask) -> Any:
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


def test_the_description_is_valid_openapi_3_1(app: Flask) -> None:
    document = app.test_client().get("/openapi.json").get_json()

    assert document["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_route_is_described_with_its_methods(app: Flask) -> None:
    document = app.test_client().get("/openapi.json").get_json()

    served = {
        rule.rule: {method.lower() for method in rule.methods or ()} - {"head", "options"}
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("sam2_api.")
    }

    assert {path: set(operations) for path, operations in document["paths"].items()} == served


def test_the_examples_in_the_description_are_answered(app: Flask) -> None:
    client = app.test_client()
    document = client.get("/openapi.json").get_json()

    answers = {
        path: client.post(
            f"{path}?api_key=key", json=operation["post"]["requestBody"]["content"]["application/json"]["example"]
        )
        for path, operation in document["paths"].items()
        if path.startswith("/sam2/")
    }

    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(answers, 200)
    assert len(answers) == 2


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_nothing_that_can_be_asked_is_an_internal_error_or_answered_otherwise_than_described(
    described: Any, path: str, method: str, mode: GenerationMode
) -> None:
    operation = described[path][method]
    takes_nothing = not operation.body
    if mode == GenerationMode.NEGATIVE and takes_nothing:
        return  # nothing can be wrong about it

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def ask(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": "Bearer key"}, checks=CHECKS)

    ask()


@pytest.mark.parametrize("path", ["/sam2/embed_image", "/sam2/segment_image"])
def test_whatever_the_description_allows_is_answered_on_a_real_picture(described: Any, path: str) -> None:
    # other models are not served, and the two lists must be of one length, which no schema can say
    left_out = {"sam2_version_id", "model_id", "point_coords", "point_labels"}
    operation = described[path]["post"]
    picture = operation.definition.raw["requestBody"]["content"]["application/json"]["example"]["image"]

    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    @settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def ask(case: Any) -> None:
        case.body = {key: value for key, value in case.body.items() if key not in left_out}
        case.body["image"] = picture

        answer = case.call(headers={"Authorization": "Bearer key"})

        case.validate_response(answer, checks=CHECKS)
        assert answer.status_code == 200, answer.text

    ask()
