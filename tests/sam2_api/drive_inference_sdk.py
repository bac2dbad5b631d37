"""Calls a running server with the unmodified inference-sdk in every way that its users do, and prints what came back.

    python drive_inference_sdk.py URL PICTURE

It runs in an environment of its own, see `test_inference_sdk.py`. The output is one JSON object: call -> answer.
"""

import asyncio
import base64
import io
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from PIL import Image

CLICK = [{"points": [{"x": 200, "y": 180, "positive": True}]}]
MIXED = [{"box": {"x": 480, "y": 325, "width": 160, "height": 150}}, *CLICK]


def main(url: str, path: str) -> None:
    """Make all calls and print their answers."""
    inputs: dict[str, Any] = {
        "path": path,
        "numpy": cv2.imread(path),
        "pil": Image.open(path).convert("RGB"),
        "base64": base64.b64encode(Path(path).read_bytes()).decode(),
        "data url": "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode(),
        "list": [path, cv2.imread(path)],
        "list of one": [path],
        "empty list": [],
        "mistyped path": path + "x",
    }
    answers = _sync_calls(url, inputs) | asyncio.run(_async_calls(url, inputs))
    sys.stdout.write(json.dumps(answers))


def _sync_calls(url: str, inputs: dict[str, Any]) -> dict[str, Any]:
    client = InferenceHTTPClient(api_url=url, api_key="x")
    slash = InferenceHTTPClient(api_url=f"{url}/", api_key="x")
    keyless = InferenceHTTPClient(api_url=url)
    in_header = InferenceHTTPClient(api_url=url, api_key="x")
    in_header.configure(InferenceConfiguration(api_key_transport="header"))
    path = inputs["path"]

    def segment(image: Any, prompts: Any = CLICK, by: Any = client, **options: Any) -> Any:
        return by.sam2_segment_image(image, prompts=prompts, **{"sam2_version_id": "nano", **options})

    calls: dict[str, Callable[[], Any]] = {
        f"sync {name}": lambda image=image: segment(image)  # type: ignore[misc]
        for name, image in inputs.items()
    }
    calls |= {
        "sync no prompts": lambda: segment(path, None),
        "sync empty prompts": lambda: segment(path, []),
        "sync mixed prompts": lambda: segment(path, MIXED),
        "sync rle": lambda: segment(path, mask_input_format="rle"),
        "sync one mask": lambda: segment(path, multimask_output=False),
        "sync unknown version": lambda: segment(path, sam2_version_id="hiera_tiny"),
        "sync trailing slash": lambda: segment(path, by=slash),
        "sync no key": lambda: segment(path, by=keyless),
        "sync key in header": lambda: segment(path, by=in_header),
        "info": lambda: vars(slash.get_server_info()),
        "load_model": lambda: client.load_model("nano").to_dict(),
        "list_loaded_models": lambda: client.list_loaded_models().to_dict(),
        "unload_model": lambda: client.unload_model("nano").to_dict(),
        "unload_all_models": lambda: client.unload_all_models().to_dict(),
        "load_model unknown": lambda: client.load_model("yolov8n-640").to_dict(),
    }
    return {name: _answer(call) for name, call in calls.items()}


async def _async_calls(url: str, inputs: dict[str, Any]) -> dict[str, Any]:
    client = InferenceHTTPClient(api_url=url, api_key="x")

    def segment(image: Any, **options: Any) -> Awaitable[Any]:
        asked = {"prompts": CLICK, "sam2_version_id": "nano", **options}
        call: Awaitable[Any] = client.sam2_segment_image_async(image, **asked)
        return call

    answers = {f"async {name}": await _awaited(segment(image)) for name, image in inputs.items()}
    answers["async rle"] = await _awaited(segment(inputs["path"], mask_input_format="rle"))
    answers["async unknown version"] = await _awaited(segment(inputs["path"], sam2_version_id="hiera_tiny"))
    answers["async binary"] = await _awaited(segment(inputs["path"], mask_input_format="binary"))
    answers["async list_loaded_models"] = (await client.list_loaded_models_async()).to_dict()
    return answers


def _answer(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - what a user would see is the answer
        return _error(error)


async def _awaited(call: Awaitable[Any]) -> Any:
    try:
        answer = await call
    except Exception as error:  # noqa: BLE001 - as above
        return _error(error)
    if isinstance(answer, bytes):
        with np.load(io.BytesIO(answer)) as arrays:
            return {name: list(arrays[name].shape) for name in arrays}
    return answer


def _error(error: Exception) -> dict[str, Any]:
    return {
        "error": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "message": getattr(error, "api_message", str(error)),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
