import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from labelstudio_sam2.errors import (
    BusyError,
    GpuMemoryError,
    ImageUnreadableError,
    ModelLoadingError,
    ModelUnavailableError,
)
from labelstudio_sam2.segmenter.device_queue import DeviceQueue
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.prompt import Prompt
from labelstudio_sam2.segmenter.segmenter import Segmenter

CLICK = Prompt(point_coords=np.array([[3, 2]], np.float32), point_labels=np.array([1], np.int32))
TWO_CLICKS = Prompt(point_coords=np.array([[3, 2], [5, 2]], np.float32), point_labels=np.array([1, 0], np.int32))
BOX = Prompt(box=np.array([1, 1, 5, 4], np.float32))


def test_a_second_click_on_a_picture_neither_decodes_nor_embeds_it(
    segmenter: Any, model: Any, make_picture: Any
) -> None:
    picture = make_picture(40)

    segmenter.segment(picture, [CLICK])
    (second,) = segmenter.segment(picture, [TWO_CLICKS])

    assert second.score == pytest.approx(0.4)
    assert model.embedded == [40]
    assert picture.loaded == 1


def test_a_lone_click_asks_for_three_masks_and_anything_more_for_one(
    segmenter: Any, model: Any, make_picture: Any
) -> None:
    segmenter.segment(make_picture(40), [CLICK, TWO_CLICKS, BOX])

    assert model.multimask == [True, False, False]


def test_the_callers_word_on_multimask_wins(segmenter: Any, model: Any, make_picture: Any) -> None:
    segmenter.segment(make_picture(40), [CLICK, BOX], multimask_output=True)

    assert model.multimask == [True, True]


def test_64_requests_over_8_threads_on_8_pictures_get_their_own_masks_from_8_embeddings(
    segmenter: Any, model: Any, make_picture: Any
) -> None:
    pictures = [make_picture(gray) for gray in (10, 20, 30, 40, 50, 60, 70, 80)]

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda i: segmenter.segment(pictures[i % 8], [CLICK])[0].score, range(64)))

    assert answers == pytest.approx([(i % 8 + 1) / 10 for i in range(64)])
    assert sorted(model.embedded) == [10, 20, 30, 40, 50, 60, 70, 80]


def test_50_equal_requests_at_once_embed_once(segmenter: Any, model: Any, make_picture: Any) -> None:
    picture, release = make_picture(40), threading.Event()
    model.on_embed = lambda: release.wait(5)

    with ThreadPoolExecutor(50) as threads:
        answers = [threads.submit(segmenter.segment, picture, [CLICK]) for _ in range(50)]
        release.set()
        scores = [answer.result()[0].score for answer in answers]

    assert scores == pytest.approx([0.4] * 50)
    assert model.embedded == [40]


def test_a_failed_picture_is_tried_again_by_the_next_request(segmenter: Any, model: Any, make_picture: Any) -> None:
    picture = make_picture(40)
    good_load, picture.load = picture.load, _raising(ImageUnreadableError("truncated"))
    with pytest.raises(ImageUnreadableError):
        segmenter.segment(picture, [CLICK])
    picture.load = good_load

    (answer,) = segmenter.segment(picture, [CLICK])

    assert answer.score == pytest.approx(0.4)


def test_out_of_gpu_memory_once_empties_the_cache_and_tries_again(
    segmenter: Any, model: Any, make_picture: Any
) -> None:
    segmenter.segment(make_picture(10), [CLICK])
    failures = iter([GpuMemoryError("8 MiB wanted")])
    model.on_embed = lambda: _raise_next(failures)

    (answer,) = segmenter.segment(make_picture(20), [CLICK])

    assert answer.score == pytest.approx(0.2)
    assert model.freed == 1
    assert segmenter.cache_stats().entries == 1


def test_out_of_gpu_memory_in_a_prediction_is_tried_again_too(segmenter: Any, model: Any, make_picture: Any) -> None:
    failures = iter([GpuMemoryError("8 MiB wanted")])
    model.on_predict = lambda: _raise_next(failures)

    (answer,) = segmenter.segment(make_picture(20), [CLICK])

    assert answer.score == pytest.approx(0.2)
    assert model.freed == 1


def test_a_request_for_many_objects_ends_at_its_deadline(model: Any, make_picture: Any) -> None:
    segmenter = _segmenter(lambda: model, wait_seconds=0.05)
    segmenter.start().join()
    model.on_predict = lambda: threading.Event().wait(0.03)

    with pytest.raises(BusyError, match="100 objects"):
        segmenter.segment(make_picture(20), [CLICK] * 100)

    assert len(model.multimask) < 10


def test_who_waits_for_an_embedding_gives_up_at_its_deadline(model: Any, make_picture: Any) -> None:
    segmenter = _segmenter(lambda: model, wait_seconds=0.05)
    segmenter.start().join()
    begun, release = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        release.wait(5)

    model.on_embed = hold

    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(segmenter.segment, make_picture(20), [CLICK])
        begun.wait(5)
        with pytest.raises(BusyError):
            segmenter.segment(make_picture(20), [CLICK])
        release.set()
        first.result(5)


def test_out_of_gpu_memory_always_is_an_error_and_the_next_request_is_served(
    segmenter: Any, model: Any, make_picture: Any
) -> None:
    model.on_embed = _raising(GpuMemoryError("8 MiB wanted"))
    with pytest.raises(GpuMemoryError):
        segmenter.segment(make_picture(20), [CLICK])
    model.on_embed = lambda: None

    (answer,) = segmenter.segment(make_picture(20), [CLICK])

    assert answer.score == pytest.approx(0.2)


def test_before_the_weights_are_there_a_request_is_told_so(make_picture: Any) -> None:
    loaded = threading.Event()
    segmenter = _segmenter(lambda: loaded.wait(5))
    thread = segmenter.start()

    with pytest.raises(ModelLoadingError):
        segmenter.segment(make_picture(40), [CLICK])

    loaded.set()
    thread.join()


def test_weights_that_cannot_be_loaded_are_named_to_every_request(make_picture: Any) -> None:
    segmenter = _segmenter(_raising(ModelUnavailableError("put the file there")))
    segmenter.start().join()

    assert segmenter.state == "failed"
    with pytest.raises(ModelUnavailableError, match="put the file there"):
        segmenter.segment(make_picture(40), [CLICK])


def test_a_bug_while_loading_is_told_as_a_failure_not_as_loading_for_ever(make_picture: Any) -> None:
    segmenter = _segmenter(_raising(KeyError("image_encoder")))
    segmenter.start().join()

    with pytest.raises(ModelUnavailableError, match="KeyError"):
        segmenter.segment(make_picture(40), [CLICK])


def test_a_model_that_fails_its_first_prediction_is_not_ready(model: Any, make_picture: Any) -> None:
    model.on_embed = _raising(RuntimeError("CUDA error: no kernel image"))
    segmenter = _segmenter(lambda: model)
    segmenter.start().join()

    with pytest.raises(ModelUnavailableError, match="no kernel image"):
        segmenter.check_ready()


def test_the_same_picture_under_another_model_is_embedded_again(model: Any, make_picture: Any) -> None:
    cache: EmbeddingCache[Any] = EmbeddingCache(1000)
    for version in ("nano@1", "nano@1+fp16"):
        segmenter = _segmenter(lambda: model, version=version, cache=cache)
        segmenter.start().join()
        segmenter.segment(make_picture(40), [CLICK])

    assert [gray for gray in model.embedded if gray] == [40, 40]  # 0 is the warm-up's


def _segmenter(
    load_model: Callable[[], Any],
    version: str = "fake@1",
    cache: EmbeddingCache[Any] | None = None,
    wait_seconds: float = 5,
) -> Segmenter[Any]:
    return Segmenter(
        load_model,
        model_version=version,
        cache=cache or EmbeddingCache(1000),
        device=DeviceQueue(max_waiting=8, wait_seconds=5),
        wait_seconds=wait_seconds,
    )


def _raising(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise type(error)(*error.args)

    return fail


def _raise_next(errors: Any) -> None:
    for error in errors:
        raise error
