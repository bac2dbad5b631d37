"""The obvious backend: what a first version does for every click, and what the backends of today do.

Nothing here is slow on purpose. It reads the request, opens the picture, asks `SAM2ImagePredictor` as SAM 2's own
README shows, and writes the answer with label-studio-sdk. It has no web server around it, which is in its favour.
"""

import json
import warnings
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from label_studio_sdk.converter import brush as untyped_brush
from numpy.typing import NDArray
from PIL import Image
from sam2.sam2_image_predictor import SAM2ImagePredictor

brush: Any = untyped_brush


class PlainBackend:
    """Answers clicks with one predictor, which holds the picture it was last given. Not thread-safe, as such code is.

    Args:
        net: A `SAM2Base` on its device.
        folder: Where the pictures are; an address is known by its last part.
    """

    def __init__(self, net: torch.nn.Module, folder: Path) -> None:
        self._predictor = _predictor(net)
        self._folder = folder

    def click(self, body: bytes) -> bytes:
        """Answer the body of `POST /predict`."""
        request = json.loads(body)
        address = request["tasks"][0]["data"]["image"]
        with Image.open(self._folder / PurePosixPath(urlsplit(address).path).name) as file:
            image = np.array(file.convert("RGB"))
        clicks = request["params"]["context"]["result"]
        height, width = image.shape[:2]
        coords = [[each["value"]["x"] / 100 * width, each["value"]["y"] / 100 * height] for each in clicks]
        labels = [int(each["is_positive"]) for each in clicks]
        with torch.inference_mode(), self._autocast():
            self._predictor.set_image(image)
            masks, scores, _ = self._predictor.predict(
                point_coords=np.array(coords), point_labels=np.array(labels), multimask_output=True
            )
        best = int(np.argmax(scores))
        return answer(masks[best], float(scores[best]), clicks[-1]["value"]["keypointlabels"])

    def _autocast(self) -> Any:
        """On a GPU bfloat16, as SAM 2's README has it."""
        is_cuda = self._predictor.device.type == "cuda"
        return torch.autocast("cuda", dtype=torch.bfloat16) if is_cuda else nullcontext()


def answer(mask: NDArray[Any], score: float, class_names: list[str]) -> bytes:
    """Write a mask, (H, W) of 0 and 1, as the body of an answer to Label Studio."""
    height, width = mask.shape
    region = {
        "id": "plain",
        "from_name": "mask",
        "to_name": "image",
        "type": "brushlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": score,
        "value": {
            "format": "rle",
            "rle": brush.mask2rle(mask.astype(np.uint8) * 255),
            "brushlabels": class_names,
        },
    }
    return json.dumps({"results": [{"result": [region], "score": score, "model_version": "plain"}]}).encode()


def _predictor(net: Any) -> SAM2ImagePredictor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # sam2's own
        predictor = SAM2ImagePredictor(net)
    # It knows only models of 1024 pixels; nano's are fewer.
    predictor._bb_feat_sizes = [(net.image_size // stride,) * 2 for stride in (4, 8, 16)]  # noqa: SLF001
    return predictor
