"""Schemathesis on our own OpenAPI document: no 5xx, and answers of the stated shapes."""

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .inprocess import served

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]


def test_no_request_of_our_document_ends_in_a_server_error():
    with served() as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        tried = {}
        for found in schema.get_all_operations():
            operation = found.ok()
            few = 30 if operation.label == "POST /predict" else 3
            for mode in GenerationMode:

                @settings(
                    max_examples=few,
                    derandomize=True,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=operation.as_strategy(mode))
                def check(case):
                    answer = case.call()
                    tried.setdefault(case.operation.label, []).append(answer.status_code)
                    case.validate_response(answer, checks=CHECKS)

                check()
        assert set(tried) == {
            f"GET {path}" for path in ("/model", "/health", "/ready", "/metrics")
        } | {"POST /predict"}
        assert {200, 400} <= set(tried["POST /predict"])
