"""The description of this API that machines read, served at `/openapi.json`."""

from typing import Any

_PICTURE = (  # 8 x 6 pixels, a light rectangle on dark ground
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAGCAAAAADbboAnAAAAHUlEQVR42mPUYIAAJijNwM"
    "LAsIWBgcEHIcKIoQYALHABXVlqnqQAAAAASUVORK5CYII="
)


def openapi_document(version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of the seed's routes.

    Args:
        version: This package's.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SAM 2 API of labelstudio-sam2",
            "version": version,
            "description": "Pictures and prompts in, masks out. Coordinates are pixels of the upright picture, with "
            "the origin at the outer corner of the top left pixel. Field names and answers are those that "
            "inference-sdk knows.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"apiKeyInAddress": []}, {"bearer": []}, {"basic": []}],
        "paths": _paths(),
        "components": {"schemas": _schemas(), "responses": _responses(), "securitySchemes": _security_schemes()},
    }


def _paths() -> dict[str, Any]:
    return {
        "/sam2/embed_image": {
            "post": _operation(
                "embedImage",
                "Run the image encoder, so that later requests for masks of the same picture are fast",
                _json("EmbedAnswer", "The picture's embedding is cached"),
                body=_body("EmbedRequest", {"image": {"type": "base64", "value": _PICTURE}, "image_id": "square"}),
                errors=("400", "401", "413", "500", "502", "503"),
            )
        },
        "/sam2/segment_image": {
            "post": _operation(
                "segmentImage",
                "Return a mask for every prompt, or that of the most prominent object",
                {
                    "description": "A mask and a score per prompt, in their order",
                    "content": {
                        "application/json": {"schema": _ref("SegmentAnswer")},
                        "application/octet-stream": {
                            "schema": {
                                "type": "string",
                                "format": "binary",
                                "description": "For the format binary: an npz file with masks (P, H, W) and "
                                "low_res_masks (P, M, M), float32 logits; above 0 is foreground",
                            }
                        },
                    },
                },
                body=_body(
                    "SegmentRequest",
                    {
                        "image": {"type": "base64", "value": _PICTURE},
                        "prompts": [
                            {"points": [{"x": 4, "y": 3, "positive": True}]},
                            {"box": {"x": 4, "y": 3, "width": 4, "height": 2}},
                        ],
                        "format": "rle",
                    },
                ),
                errors=("400", "401", "413", "500", "502", "503"),
            )
        },
        "/info": {"get": _probe("info", "Name and version of this server", _json("Info", "This server"))},
        "/healthz": {
            "get": _probe(
                "healthz", "Whether the server answers and its GPU works", _json("Status", "It does"), ("503",)
            )
        },
        "/readiness": {
            "get": _probe("readiness", "Whether the served model can be asked", _json("Status", "It can"), ("503",))
        },
        "/openapi.json": {
            "get": _probe(
                "openapi",
                "This description",
                {"description": "OpenAPI 3.1", "content": {"application/json": {"schema": {"type": "object"}}}},
            )
        },
        "/model/registry": {"get": _operation("listModels", "The models in memory", _json("Models", "Their ids"))},
        "/model/add": {
            "post": _operation(
                "addModel",
                "Load one of the models that this server may serve, and wait until it is there",
                _json("Models", "The models in memory"),
                body=_body("ModelRequest"),
                errors=("400", "401", "413", "500", "503"),
            )
        },
        "/model/remove": {
            "post": _operation(
                "removeModel",
                "Take a model out of memory; the one that the server was started with stays",
                _json("Models", "The models in memory"),
                body=_body("ModelRequest"),
                errors=("400", "401", "413"),
            )
        },
        "/model/clear": {
            "post": _operation(
                "clearModels", "Take all models but the served one out of memory", _json("Models", "Those that stay")
            )
        },
    }


def _schemas() -> dict[str, Any]:
    pixels = {"type": "number", "minimum": -1e9, "maximum": 1e9}
    point = _object({"x": pixels, "y": pixels, "positive": {"type": "boolean"}}, required=["x", "y", "positive"])
    length = {"type": "number", "minimum": 0, "maximum": 1e9}
    box = _object(
        {"x": pixels, "y": pixels, "width": length, "height": length},
        required=["x", "y", "width", "height"],
        description="x and y are the center",
    )
    prompt = _object(
        {
            "points": {"anyOf": [{"type": "array", "items": _ref("Point"), "maxItems": 256}, {"type": "null"}]},
            "box": {"anyOf": [_ref("Box"), {"type": "null"}]},
        },
        description="One object: points on it, points that are not on it, a box around it; without any of these the "
        "most prominent one",
    )
    several = {"type": "array", "items": _ref("Prompt"), "maxItems": 256}
    embed = {
        "image": {"anyOf": [_ref("Image"), {"type": "null"}]},
        "image_id": {
            "type": ["string", "null"],
            "maxLength": 256,
            "description": "Names the picture; where it is known, image may be left out or come without its value",
        },
        "sam2_version_id": {"type": "string", "description": "The model, such as hiera_large; else the served one"},
        "model_id": {"type": ["string", "null"], "description": "The same, such as sam2/hiera_large"},
        "api_key": {"type": ["string", "null"], "description": "Compared only if the operator has set one"},
    }
    segment = embed | {
        "prompts": {
            "anyOf": [_object({"prompts": several}, required=["prompts"]), several, _ref("Prompt"), {"type": "null"}]
        },
        "point_coords": {
            "anyOf": [{"type": "array", "items": {"type": "array", "items": pixels}}, {"type": "null"}],
            "description": "One prompt's points as x y pairs, as clients of the first server wrote them; goes with "
            "point_labels, and not with prompts",
        },
        "point_labels": {
            "anyOf": [{"type": "array", "items": {"enum": [0, 1]}}, {"type": "null"}],
            "description": "Of each of point_coords: 1 for a point on the object, 0 for one that is not on it",
        },
        "format": {"enum": ["json", "rle", "binary"], "default": "json"},
        "multimask_output": {"type": "boolean", "default": True, "description": "Choose the best of three masks"},
        "save_logits_to_cache": {"type": "boolean", "default": False},
        "load_logits_from_cache": {"type": "boolean", "default": False},
    }
    image = _object(
        {
            "type": {"type": "string", "description": "base64 or url", "examples": ["base64"]},
            "value": {
                "type": ["string", "null"],
                "description": "A file as base64 or data URL, or its address on a host that this server may ask",
            },
        },
        required=["type"],
    )
    seconds = {"type": "number", "minimum": 0, "description": "Seconds this took"}
    count = {"type": "integer", "minimum": 0}
    corners = {"type": "array", "items": {"type": "array", "items": count, "minItems": 2, "maxItems": 2}}
    coco = _object(
        {
            "size": {"type": "array", "items": count, "minItems": 2, "maxItems": 2, "description": "[H, W]"},
            "counts": {"type": "string"},
        },
        required=["size", "counts"],
        description="COCO's compressed run lengths",
    )
    needed = ["masks", "confidence", "format"]
    polygon_prediction = _object(
        {
            "masks": {"type": "array", "items": corners, "description": "Outer contours, x y corners; holes are lost"},
            "confidence": {"type": "number"},
            "format": {"const": "polygon"},
        },
        required=needed,
    )
    rle_prediction = _object(
        {"masks": coco, "confidence": {"type": "number"}, "format": {"const": "rle"}}, required=needed
    )
    return {
        "Point": point,
        "Box": box,
        "Prompt": prompt,
        "Image": image,
        "EmbedRequest": _object(embed),
        "EmbedAnswer": _object({"image_id": {"type": "string"}, "time": seconds}, required=["image_id", "time"]),
        "SegmentRequest": _object(segment),
        "SegmentAnswer": _object(
            {
                "predictions": {"type": "array", "items": {"oneOf": [polygon_prediction, rle_prediction]}},
                "image_id": {"type": "string"},
                "time": seconds,
            },
            required=["predictions", "image_id", "time"],
        ),
        "ModelRequest": _object(
            {"model_id": {"type": "string"}, "api_key": {"type": ["string", "null"]}}, required=["model_id"]
        ),
        "Models": _object(
            {
                "models": {
                    "type": "array",
                    "items": _object(
                        {"model_id": {"type": "string"}, "task_type": {"type": "string"}},
                        required=["model_id", "task_type"],
                    ),
                }
            },
            required=["models"],
        ),
        "Info": _object(
            {"name": {"type": "string"}, "version": {"type": "string"}, "uuid": {"type": "string", "format": "uuid"}},
            required=["name", "version", "uuid"],
        ),
        "Status": _object({"status": {"type": "string"}}, required=["status"]),
        "Error": _object(
            {
                "error": {"type": "string", "description": "A word for programs"},
                "message": {"type": "string", "description": "What is wrong, for people"},
                "detail": {"type": "string", "description": "The same"},
                "request_id": {"type": ["string", "null"], "description": "Names the request in the server's log"},
            },
            required=["error", "message", "detail"],
        ),
    }


def _responses() -> dict[str, Any]:
    return {
        status: _json("Error", description)
        for status, description in {
            "400": "The body is not JSON, a field is missing or wrong, the model or the image id is not known, or the "
            "picture cannot be read or may not be fetched, or the masks are too many for their size; the message says "
            "which",
            "401": "Credentials are missing or wrong",
            "413": "The body or the picture is over the limit",
            "500": "The server cannot answer this, now or later",
            "502": "The picture's server cannot be reached or answered with an error",
            "503": "The model is being loaded, or too many requests wait: try again; a probe says so too of a model "
            "that cannot be loaded",
        }.items()
    }


def _security_schemes() -> dict[str, Any]:
    return {
        "apiKeyInAddress": {"type": "apiKey", "in": "query", "name": "api_key"},
        "bearer": {"type": "http", "scheme": "bearer"},
        "basic": {"type": "http", "scheme": "basic"},
    }


def _operation(
    operation_id: str,
    summary: str,
    answer: dict[str, Any],
    *,
    body: dict[str, Any] | None = None,
    errors: tuple[str, ...] = ("401",),
) -> dict[str, Any]:
    refusals = {status: {"$ref": f"#/components/responses/{status}"} for status in errors}
    operation = {"operationId": operation_id, "summary": summary, "responses": {"200": answer, **refusals}}
    return operation if body is None else operation | {"requestBody": body}


def _probe(operation_id: str, summary: str, answer: dict[str, Any], errors: tuple[str, ...] = ()) -> dict[str, Any]:
    return {**_operation(operation_id, summary, answer, errors=errors), "security": [{}]}


def _body(schema: str, example: dict[str, Any] | None = None) -> dict[str, Any]:
    shown = {} if example is None else {"example": example}
    return {"required": True, "content": {"application/json": {"schema": _ref(schema), **shown}}}


def _json(schema: str, description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _ref(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _object(
    properties: dict[str, Any], *, required: list[str] | None = None, description: str | None = None
) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required is not None:
        schema["required"] = required
    if description is not None:
        schema["description"] = description
    return schema
