"""Errors in the shape that OpenAI clients read: `{"error": {"message", "type", "param", "code"}}`.

In: whatever a route raises. Out: a JSON response with the right status. Bad values are 400 - FastAPI's own
422 too - an unknown model or path 404, a fault of ours 500 without its details.
Format: https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import logging
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from haina.runtime.errors import HainaError

UNION_LABEL = re.compile(r"(?:str|int|list\[.*|constrained-.*|lax-or-strict.*|function-.*)$")
logger = logging.getLogger("haina.serve")


class ApiError(Exception):
    """A request that cannot be answered.

    Args:
        message: what is wrong, for the person who wrote the request.
        status: HTTP status.
        param: the field at fault.
        code: a word for programs, such as `model_not_found`.
    """

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.param, self.code = message, status, param, code


def error_body(
    message: str, status: int, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The JSON object of one error."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def body_of(error: Exception) -> dict[str, Any]:
    """The JSON object of an error that comes while an answer is already being streamed."""
    if isinstance(error, ApiError):
        return error_body(error.message, error.status, error.param, error.code)
    if isinstance(error, HainaError):
        return error_body(str(error), 400)
    logger.error("generation failed", exc_info=error)
    return error_body("the server failed to generate; its log says why", 500)


def _respond(status: int, body: dict[str, Any]) -> JSONResponse:
    return JSONResponse(body, status_code=status)


def _field_path(error: dict[str, Any]) -> list[str]:
    """Names and indices that lead to the field, without pydantic's labels for the branches of a union."""
    return [str(part) for part in error["loc"] if part != "body" and not UNION_LABEL.match(str(part))]


def _validation(error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    context = first.get("ctx", {})
    if first["type"] == "json_invalid":
        return _respond(400, error_body(f"the body is not valid JSON: {context.get('error', '')}", 400))
    path = _field_path(first)
    param = context.get("param") or ".".join(path) or None
    if first["type"] == "unsupported_parameter":
        return _respond(400, error_body(first["msg"], 400, param, "unsupported_parameter"))
    if first["type"] == "extra_forbidden":
        return _respond(400, error_body(f"unknown field: {param}", 400, param, "unknown_parameter"))
    if first["type"] == "missing":
        return _respond(
            400, error_body(f"missing field: {param or 'a JSON body'}", 400, param, "missing_parameter")
        )
    if not path:
        param = context.get("param")
        message = (
            first["msg"]
            if param
            else f"the body must be a JSON object sent as application/json: {first['msg']}"
        )
        return _respond(400, error_body(message, 400, param))
    # Where a field may be of several types, each of them has its own complaint.
    same = [other["msg"] for other in error.errors() if _field_path(other)[0] == path[0]]
    reasons = "; or ".join(dict.fromkeys(same))
    return _respond(400, error_body(f"{param}: {reasons}", 400, param, "invalid_value"))


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of `app` an OpenAI error."""

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return _respond(error.status, error_body(error.message, error.status, error.param, error.code))

    @app.exception_handler(HainaError)
    async def haina_error(request: Request, error: HainaError) -> JSONResponse:
        return _respond(400, error_body(str(error), 400))

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        return _validation(error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        response = _respond(error.status_code, error_body(message, error.status_code))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _respond(500, error_body("the server failed to answer; its log says why", 500))
