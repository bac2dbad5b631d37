"""A process of its own that embeds pictures on a shared folder; test_processes.py starts several.

Usage: share_a_folder.py FOLDER LOCK_SECONDS RELEASE GRAY...

Prints `ready`; then, for each picture that is really embedded, `embeds GRAY`, and waits until the file RELEASE exists;
at last the grays that were answered.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.embedding_disk import EmbeddingDisk
from labelstudio_sam2.segmenter.prompt import Image, Prompt, Segmentation
from labelstudio_sam2.segmenter.segmenter import Segmenter


@dataclass(frozen=True)
class Embedding:
    gray: int
    nbytes: int = 100


class Model:
    """Embeds slowly, and says so."""

    embedding_format = "fake"

    def __init__(self, release: Path) -> None:
        self._release = release

    def embed(self, image: Image, step_aside: Callable[[], None]) -> Embedding:
        gray = int(image[0, 0, 0])
        if gray:  # 0 is the warm-up's
            say("embeds", gray)
            while not self._release.exists():
                time.sleep(0.01)
        return Embedding(gray)

    def predict(self, embedding: Embedding, prompt: Prompt, *, multimask_output: bool) -> Segmentation:
        scores = np.array([embedding.gray / 100], np.float32)
        return Segmentation(low_res_logits=np.zeros((1, 4, 4), np.float32), scores=scores, size_hw=(6, 8))

    def to_bytes(self, embedding: Embedding, key: str) -> bytes:
        return f"{embedding.gray}".encode()

    def from_bytes(self, data: bytes, key: str) -> Embedding:
        return Embedding(int(data))

    def free_memory(self) -> None:
        """Hold none."""


@dataclass(frozen=True)
class Picture:
    gray: int
    size_hw: tuple[int, int] = (6, 8)

    @property
    def sha256(self) -> str:
        return f"{self.gray:064d}"

    def load(self) -> Image:
        return np.full((*self.size_hw, 3), self.gray, np.uint8)


def main(folder: str, lock_seconds: str, release: str, *grays: str) -> None:
    segmenter: Segmenter[Embedding] = Segmenter(
        lambda: Model(Path(release)),
        model_version="fake@1",
        cache=EmbeddingCache(1000),
        device=DeviceSchedule(max_waiting=10, wait_seconds=600),
        disk=EmbeddingDisk(Path(folder), 10_000, lock_seconds=float(lock_seconds)),
        wait_seconds=600,
    )
    segmenter.start().join()
    say("ready")
    say(*[segmenter.embed(Picture(int(gray))).gray for gray in grays])


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
