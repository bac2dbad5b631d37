import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from labelstudio_sam2.sam2_api.logits import LogitsMemory
from labelstudio_sam2.segmenter.prompt import FloatArray, Prompt

A, B, C = (1.0, 1.0, 1), (2.0, 2.0, 0), (3.0, 3.0, 1)
BOX = (1.0, 2.0, 5.0, 4.0)


class FakeEmbedding:
    nbytes = 100


def asked(*clicks: tuple[float, float, int], box: tuple[float, ...] | None = None) -> Prompt:
    return Prompt(
        point_coords=np.array([(x, y) for x, y, _ in clicks], np.float32).reshape(-1, 2),
        point_labels=np.array([label for _, _, label in clicks], np.int32),
        box=None if box is None else np.array(box, np.float32),
    )


def logits(value: float) -> FloatArray:
    return np.full((1, 2, 2), value, np.float32)


@pytest.fixture
def embedding() -> FakeEmbedding:
    return FakeEmbedding()


@pytest.fixture
def found(embedding: FakeEmbedding) -> Callable[..., float | None]:
    """Return a function that says which value a prompt goes on from, after others were remembered as 1, 2, 3, ..."""

    def find(prompt: Prompt, *earlier: Prompt) -> float | None:
        memory: LogitsMemory[Any] = LogitsMemory()
        for value, other in enumerate(earlier, 1):
            memory.put(embedding, other, logits(value))
        low_res_logits = memory.before(embedding, prompt)
        return None if low_res_logits is None else float(low_res_logits[0, 0, 0])

    return find


@pytest.mark.parametrize(
    ("case", "prompt", "earlier", "expected"),
    [
        ("one click less", asked(A, B), [asked(A)], 1),
        ("the order of clicks is no matter", asked(A, B, C), [asked(C, A)], 1),
        ("from no prompt at all", asked(A), [asked()], 1),
        ("a click into a box", asked(A, box=BOX), [asked(box=BOX)], 1),
        ("of one click less the newest", asked(A, B), [asked(A), asked(B)], 2),
        ("asked again it is the newest", asked(A, B), [asked(A), asked(B), asked(A)], 3),
        ("one click less before a newer one with two less", asked(A, B, C), [asked(A, B), asked(C)], 1),
        ("else the largest", asked(A, B, C), [asked(A), asked()], 1),
        ("never from itself", asked(A, B), [asked(A, B)], None),
        ("never from more", asked(A), [asked(A, B)], None),
        ("never from another click", asked(A, B), [asked(C)], None),
        ("never from a click of the other label", asked(A, B), [asked((1, 1, 0))], None),
        ("never from another box", asked(A, box=BOX), [asked(box=(0, 0, 1, 1)), asked()], None),
        ("never from a box into no box", asked(A), [asked(box=BOX)], None),
    ],
)
def test_a_prompt_goes_on_from_the_nearest_one_that_it_adds_clicks_to(
    case: str, prompt: Prompt, earlier: list[Prompt], expected: float | None, found: Callable[..., float | None]
) -> None:
    assert found(prompt, *earlier) == expected


def test_the_last_logits_are_those_of_the_last_call(embedding: FakeEmbedding) -> None:
    memory: LogitsMemory[Any] = LogitsMemory()

    nothing = memory.last(embedding)
    memory.put_last(embedding, logits(1))
    memory.put_last(embedding, logits(2))

    assert nothing is None
    np.testing.assert_array_equal(memory.last(embedding), logits(2))
    assert memory.before(embedding, asked(A)) is None  # the two kinds do not mix


def test_an_embedding_never_gets_anothers_logits(embedding: FakeEmbedding) -> None:
    memory: LogitsMemory[Any] = LogitsMemory()
    memory.put_last(embedding, logits(1))
    memory.put(embedding, asked(), logits(1))

    other = FakeEmbedding()

    assert memory.last(other) is None
    assert memory.before(other, asked(A)) is None


def test_logits_go_with_their_embedding() -> None:
    memory: LogitsMemory[Any] = LogitsMemory()
    embeddings = [FakeEmbedding(), FakeEmbedding()]
    for embedding in embeddings:
        memory.put_last(embedding, logits(1))
        memory.put(embedding, asked(A), logits(1))
    del embedding

    embeddings.pop()
    gc.collect()

    assert len(memory) == 2


def test_of_too_many_logits_the_oldest_go_first(embedding: FakeEmbedding) -> None:
    memory: LogitsMemory[Any] = LogitsMemory(max_logits=2)
    other = FakeEmbedding()

    memory.put_last(embedding, logits(1))
    memory.put_last(other, logits(2))
    memory.put_last(embedding, logits(3))  # the newest now
    memory.put(embedding, asked(), logits(4))

    assert len(memory) == 2
    assert memory.last(other) is None
    np.testing.assert_array_equal(memory.last(embedding), logits(3))


def test_8_threads_remember_each_for_its_own_embedding() -> None:
    memory: LogitsMemory[Any] = LogitsMemory(max_logits=50)

    def remember(value: int) -> bool:
        own = FakeEmbedding()
        for _ in range(20):
            memory.put_last(own, logits(value))
            last = memory.last(own)
            if last is not None and last[0, 0, 0] != value:
                return False
        return True

    with ThreadPoolExecutor(8) as threads:
        own_only = list(threads.map(remember, range(80)))

    assert all(own_only)
    gc.collect()
    assert len(memory) == 0
