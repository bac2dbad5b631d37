"""SAM 2 from a picture to two masks: the most prominent object, and what is left of it after a negative point.

Needs supervision for drawing (pip install supervision). Writes sam.png and sam_negative_prompted.png into the current
folder. With the official large checkpoint in weights/, or with nano, which needs no download:

    python examples/sam2.py
    python examples/sam2.py --model nano
"""

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Python searches a script's own folder first, and would take this very file for the package sam2.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE]

import numpy as np  # noqa: E402
import supervision as sv  # noqa: E402
from PIL import Image  # noqa: E402

from labelstudio_sam2 import SegmentAnything2, masks2poly  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument(
    "--model",
    default=os.environ.get("MODEL", "sam2/hiera_large"),
    help="hiera_tiny, hiera_small, hiera_b_plus, hiera_large or nano [default: MODEL or %(default)s]",
)
model_id = parser.parse_args().model
image_path = str(HERE / "sam2" / "hand.png")

m = SegmentAnything2(model_id=model_id)

# Compute the most prominent mask. Embedding first is optional: the embedding is cached, every call after it is quick.
embedding, img_shape, id_ = m.embed_image(image_path)
raw_masks, raw_low_res_masks = m.segment_image(image_path)
mask = raw_masks >= m.predictor.mask_threshold
polygons = masks2poly(mask)

# "Not the sleeve": point label 0 is negative, 1 positive. The point corrects the mask of the call before.
point = [250, 800]
raw_masks, raw_low_res_masks = m.segment_image(image_path, point_coords=[point], point_labels=[0])
mask_without_sleeve = raw_masks >= m.predictor.mask_threshold

# Draw both.
image = np.array(Image.open(image_path).convert("RGB"))
mask_annotator = sv.MaskAnnotator()
dot_annotator = sv.DotAnnotator(radius=12, outline_thickness=3, outline_color=sv.Color.WHITE)

detections = sv.Detections(xyxy=np.array([[0, 0, 100, 100]]), mask=np.array([mask]), class_id=np.array([0]))
annotated_image = mask_annotator.annotate(image.copy(), detections)
Image.fromarray(annotated_image).save("sam.png", optimize=True)

detections = sv.Detections(
    xyxy=np.array([[0, 0, 100, 100]]), mask=np.array([mask_without_sleeve]), class_id=np.array([0])
)
annotated_image = mask_annotator.annotate(image.copy(), detections)
x, y = point
dot = sv.Detections(xyxy=np.array([[x - 1, y - 1, x + 1, y + 1]]), class_id=np.array([1]))
annotated_image = dot_annotator.annotate(annotated_image, dot)
Image.fromarray(annotated_image).save("sam_negative_prompted.png", optimize=True)
