import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelstudio_sam2.errors import (
    BusyError,
    DeviceLostError,
    GpuMemoryError,
    ImageUnreadableError,
    ModelLoadingError,
    ModelUnavailableError,
)
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.embedding_disk import EmbeddingDisk
from labelstudio_sam2.segmenter.pixel_budget import PixelBudget
from labelstudio_sam2.segmenter.prompt import Prompt
from labelstudio_sam2.segmenter.segmenter import Segmenter
from labelstudio_sam2.stages import listening

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
    assert segmenter.cache_stats()["device"].entries == 1


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

    with pytest.raises(BusyError, match="of 100 objects"):
        segmenter.segment(make_picture(20), [CLICK] * 100)

    assert len(model.multimask) < 10


def test_all_that_a_request_waits_for_ends_at_one_moment(model: Any, make_picture: Any, tmp_path: Path) -> None:
    ends = list[float]()

    class Device(DeviceSchedule):
        def turn(self, urgency: Any, *, by: float = inf) -> Any:
            ends.append(by)
            return super().turn(urgency, by=by)

    class Disk(EmbeddingDisk):
        def alone(self, key: str, *, by: float = inf) -> Any:
            ends.append(by)
            return super().alone(key, by=by)

    class Pixels(PixelBudget):
        def room_for(self, pixels: int, *, by: float = inf) -> Any:
            ends.append(by)
            return super().room_for(pixels, by=by)

    segmenter = Segmenter(
        lambda: model,
        model_version="fake@1",
        cache=EmbeddingCache(1000),
        device=Device(max_waiting=8, wait_seconds=5),
        disk=Disk(tmp_path, 10_000),
        pixels=Pixels(),
        wait_seconds=60,
    )
    segmenter.start().join()
    del ends[:]
    began = time.monotonic()

    segmenter.segment(make_picture(20), [CLICK, CLICK])
    own = set(ends)
    segmenter.segment(make_picture(30), [CLICK], by=began + 7)

    assert len(ends) == 9  # the lock, room, the encoder, and one for each object
    assert len(own) == 1
    assert own.pop() == pytest.approx(began + 60, abs=5)
    assert set(ends[5:]) == {began + 7}


def test_pictures_are_decoded_only_while_there_is_room_for_their_pixels(model: Any, make_picture: Any) -> None:
    segmenter = _segmenter(lambda: model, pixels=PixelBudget(100))  # a picture has 48
    segmenter.start().join()
    release = threading.Event()
    model.on_embed = lambda: release.wait(60)
    pictures = [make_picture(gray) for gray in (10, 20, 30, 40)]

    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(segmenter.segment, picture, [CLICK]) for picture in pictures]
        try:
            while segmenter._pixels.waiting < 2:
                time.sleep(0.005)
            meanwhile = sum(picture.loaded for picture in pictures)
        finally:
            release.set()
        scores = [answer.result()[0].score for answer in answers]

    assert meanwhile == 2
    assert scores == pytest.approx([0.1, 0.2, 0.3, 0.4])


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


@pytest.mark.parametrize("call", ["on_embed", "on_predict", "on_to_bytes", "on_from_bytes"])
def test_a_lost_device_ends_every_call_of_every_model_on_it(
    model: Any, make_picture: Any, tmp_path: Path, until: Any, call: str
) -> None:
    reasons: list[str] = []
    device = DeviceSchedule(max_waiting=10, wait_seconds=5, on_lost=reasons.append)
    disk = EmbeddingDisk(tmp_path, 1000)
    segmenter, extra = (
        Segmenter(lambda: model, model_version=version, cache=EmbeddingCache(1000), device=device, disk=disk)
        for version in ("fake@1", "fake@2")
    )
    for each in (segmenter, extra):
        each.start().join()
    extra.segment(make_picture(10), [CLICK])
    segmenter.segment(make_picture(10), [CLICK])
    disk.flush()
    extra._cache.clear()
    setattr(model, call, _raising(DeviceLostError("CUDA error: unspecified launch failure")))

    with suppress(DeviceLostError):
        extra.segment(make_picture(10 if call == "on_from_bytes" else 20), [CLICK])
    until(lambda: reasons)

    assert (segmenter.state, extra.state) == ("failed", "failed")
    with pytest.raises(DeviceLostError, match="unspecified launch failure"):
        segmenter.check_ready()
    with pytest.raises(DeviceLostError, match="unspecified launch failure"):
        segmenter.segment(make_picture(10), [CLICK])
    assert reasons == ["CUDA error: unspecified launch failure"]


def test_a_device_that_is_lost_while_loading_is_told_as_lost(model: Any) -> None:
    reasons: list[str] = []
    device = DeviceSchedule(max_waiting=10, wait_seconds=5, on_lost=reasons.append)
    model.on_embed = _raising(DeviceLostError("CUDA error: unspecified launch failure"))
    segmenter: Segmenter[Any] = Segmenter(
        lambda: model, model_version="fake@1", cache=EmbeddingCache(1000), device=device
    )

    segmenter.start().join()

    assert (segmenter.state, reasons) == ("failed", ["CUDA error: unspecified launch failure"])
    with pytest.raises(DeviceLostError):
        segmenter.check_ready()


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


# The disk tier behind it


def test_after_a_restart_a_picture_is_neither_decoded_nor_embedded_again(
    model: Any, make_picture: Any, tmp_path: Path
) -> None:
    _started(model, tmp_path).segment(make_picture(40), [CLICK])
    picture = make_picture(40)

    (answer,) = _started(model, tmp_path).segment(picture, [CLICK])

    assert answer.score == pytest.approx(0.4)
    assert (model.embedded, picture.loaded) == ([40], 0)


def test_what_the_device_has_no_room_for_comes_back_from_disk(model: Any, make_picture: Any, tmp_path: Path) -> None:
    segmenter = _started(model, tmp_path, cache=EmbeddingCache(100))  # room for one

    for gray in (10, 20, 30, 10, 20, 30):
        (answer,) = segmenter.segment(make_picture(gray), [CLICK])
        segmenter._disk.flush()
        assert answer.score == pytest.approx(gray / 100)

    assert model.embedded == [10, 20, 30]
    stats = segmenter.cache_stats()
    assert (stats["device"].entries, stats["device"].hits, stats["device"].evictions) == (1, 0, 5)
    assert (stats["disk"].entries, stats["disk"].hits, stats["disk"].misses) == (3, 3, 3)


def test_a_picture_is_known_by_its_content_also_when_it_is_on_disk_only(
    model: Any, make_picture: Any, tmp_path: Path
) -> None:
    _started(model, tmp_path).embed(make_picture(40))
    segmenter = _started(model, tmp_path)

    embedding = segmenter.cached(make_picture(40).sha256)

    assert embedding.gray == 40
    assert segmenter.cached(make_picture(50).sha256) is None
    assert segmenter.cache_stats()["device"].entries == 1


@pytest.mark.parametrize("other", [{"version": "fake@2"}, {"embedding_format": "fake in fp16"}])
def test_another_checkpoint_or_precision_does_not_find_it_on_disk(
    model: Any, make_picture: Any, tmp_path: Path, other: dict[str, str]
) -> None:
    _started(model, tmp_path).embed(make_picture(40))
    model.embedding_format = other.get("embedding_format", model.embedding_format)

    _started(model, tmp_path, version=other.get("version", "fake@1")).embed(make_picture(40))

    assert model.embedded == [40, 40]


def test_a_damaged_file_is_embedded_again_and_replaced(model: Any, make_picture: Any, tmp_path: Path) -> None:
    _started(model, tmp_path).embed(make_picture(40))
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(b"of another picture 20")

    answers = [_started(model, tmp_path).segment(make_picture(40), [CLICK])[0].score for _ in range(2)]

    assert answers == pytest.approx([0.4, 0.4])
    assert model.embedded == [40, 40]


def test_50_equal_requests_at_once_read_the_disk_once(model: Any, make_picture: Any, tmp_path: Path) -> None:
    _started(model, tmp_path).embed(make_picture(40))
    segmenter, release, readings = _started(model, tmp_path), threading.Event(), list[int]()
    sha256 = make_picture(40).sha256

    def count() -> None:
        readings.append(1)
        release.wait(5)

    model.on_from_bytes = count

    with ThreadPoolExecutor(50) as threads:
        answers = [threads.submit(segmenter.embed, make_picture(40)) for _ in range(25)]
        answers += [threads.submit(segmenter.cached, sha256) for _ in range(25)]
        release.set()
        grays = {answer.result().gray for answer in answers}

    assert grays == {40}
    assert (len(readings), model.embedded) == (1, [40])


def test_a_disk_that_cannot_be_written_to_costs_no_request(model: Any, make_picture: Any) -> None:
    segmenter = _started(model, Path("/proc/embeddings"), cache=EmbeddingCache(100))

    scores = [segmenter.segment(make_picture(gray), [CLICK])[0].score for gray in (10, 20, 10)]
    segmenter._disk.flush()

    assert scores == pytest.approx([0.1, 0.2, 0.1])
    assert model.embedded == [10, 20, 10]
    assert segmenter.cache_stats()["disk"].skipped == 3


def test_a_failed_picture_lets_the_next_process_at_it(model: Any, make_picture: Any, tmp_path: Path) -> None:
    picture = make_picture(40)
    picture.load = _raising(ImageUnreadableError("truncated"))
    with pytest.raises(ImageUnreadableError):
        _started(model, tmp_path).embed(picture)

    assert _started(model, tmp_path).embed(make_picture(40)).gray == 40
    assert list(tmp_path.glob("locks/*")) == []


def test_who_waits_for_another_process_waits_until_the_file_is_there(
    model: Any, make_picture: Any, tmp_path: Path
) -> None:
    one, other = _started(model, tmp_path, settles=False), _started(model, tmp_path)
    release = threading.Event()
    model.on_to_bytes = lambda: release.wait(60)
    one.embed(make_picture(40))  # returns before the file is written

    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(other.embed, make_picture(40))
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        release.set()
        embedding = waiting.result(60)

    assert embedding.gray == 40
    assert model.embedded == [40]


def test_a_full_gpu_is_emptied_for_an_embedding_from_disk(model: Any, make_picture: Any, tmp_path: Path) -> None:
    _started(model, tmp_path).embed(make_picture(40))
    segmenter = _started(model, tmp_path)
    failures = iter([GpuMemoryError("8 MiB wanted")])
    model.on_from_bytes = lambda: _raise_next(failures)

    assert segmenter.embed(make_picture(40)).gray == 40
    assert (model.freed, model.embedded) == (1, [40])


def test_a_prefetched_picture_is_there_at_the_first_click(segmenter: Any, model: Any, make_picture: Any) -> None:
    picture = make_picture(40)

    segmenter.prefetch(picture)
    assert segmenter.cache_stats()["device"].prefetched == 1
    segmenter.prefetch(picture)
    segmenter.segment(picture, [CLICK])

    assert (model.embedded, picture.loaded) == ([40], 1)
    assert segmenter.cache_stats()["device"].prefetched == 0


def test_a_click_goes_first_while_another_picture_is_being_prefetched(
    segmenter: Any,
    model: Any,
    make_picture: Any,
    until: Any,
) -> None:
    segmenter.embed(make_picture(10))
    order = []
    begun, clicked = threading.Event(), threading.Event()

    def begin() -> None:
        begun.set()
        assert clicked.wait(5)

    model.on_embed = begin
    model.on_predict = lambda: order.append(("predict", list(model.embedded)))
    with ThreadPoolExecutor(2) as threads:
        ahead = threads.submit(segmenter.prefetch, make_picture(20))
        assert begun.wait(5)
        click = threads.submit(segmenter.segment, make_picture(10), [CLICK])
        until(lambda: segmenter._device.waiting == 1)
        clicked.set()
        click.result(5)
        ahead.result(5)

    assert order == [("predict", [10])]  # before the other picture's embedding was done
    assert model.embedded == [10, 20]


def test_a_click_on_a_picture_that_is_being_prefetched_waits_for_it_and_owns_it(
    segmenter: Any,
    model: Any,
    make_picture: Any,
    until: Any,
) -> None:
    begun, clicked = threading.Event(), threading.Event()

    def begin() -> None:
        begun.set()
        assert clicked.wait(5)

    model.on_embed = begin
    picture = make_picture(40)
    with ThreadPoolExecutor(2) as threads:
        ahead = threads.submit(segmenter.prefetch, picture)
        assert begun.wait(5)
        click = threads.submit(segmenter.segment, picture, [CLICK])
        until(lambda: segmenter._clicked)
        clicked.set()
        assert [segmentation.score for segmentation in click.result(5)] == pytest.approx([0.4])
        ahead.result(5)

    assert (model.embedded, picture.loaded) == ([40], 1)
    assert segmenter.cache_stats()["device"].prefetched == 0
    assert not segmenter._clicked


@pytest.mark.parametrize("is_clicked", [False, True])
def test_another_pictures_click_goes_before_a_prefetch_unless_that_is_clicked_on_too(
    segmenter: Any,
    model: Any,
    make_picture: Any,
    is_clicked: bool,  # noqa: FBT001
    until: Any,
) -> None:
    begun, queued = threading.Event(), threading.Event()

    def begin() -> None:
        if not begun.is_set():
            begun.set()
            assert queued.wait(5)

    model.on_embed = begin
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(segmenter.prefetch, make_picture(20))]
        assert begun.wait(5)
        if is_clicked:
            calls.append(threads.submit(segmenter.embed, make_picture(20)))
            until(lambda: segmenter._clicked)
        calls.append(threads.submit(segmenter.embed, make_picture(30)))
        until(lambda: segmenter._device.waiting == 1)
        queued.set()
        for call in calls:
            call.result(5)

    assert model.embedded == ([20, 30] if is_clicked else [30, 20])


def test_a_prefetch_that_does_not_fit_gives_up_and_evicts_nothing(
    segmenter: Any, model: Any, make_picture: Any
) -> None:
    segmenter.embed(make_picture(10))
    failures = iter([GpuMemoryError("8 MiB wanted")])
    model.on_embed = lambda: _raise_next(failures)

    with pytest.raises(GpuMemoryError):
        segmenter.prefetch(make_picture(20))

    assert (model.freed, segmenter.cache_stats()["device"].entries) == (0, 1)
    segmenter.segment(make_picture(20), [CLICK])
    assert model.embedded == [10, 20]


def test_what_is_prefetched_from_disk_is_still_nobodys(model: Any, make_picture: Any, tmp_path: Path) -> None:
    _started(model, tmp_path).embed(make_picture(40))
    segmenter = _started(model, tmp_path, cache=EmbeddingCache(1000, prefetch_max_bytes=300))

    segmenter.prefetch(make_picture(40))

    assert model.embedded == [40]
    assert segmenter.cache_stats()["device"].prefetched == 1


# Precomputed onto the disk tier


def test_what_was_precomputed_is_there_for_another_process(model: Any, make_picture: Any, tmp_path: Path) -> None:
    was_made = _started(model, tmp_path).precompute(make_picture(40))
    picture, server = make_picture(40), _started(model, tmp_path)

    (answer,) = server.segment(picture, [CLICK])

    assert (was_made, answer.score) == (True, pytest.approx(0.4))
    assert (model.embedded, picture.loaded) == ([40], 0)


def test_what_is_on_disk_already_is_neither_decoded_nor_embedded_again(
    model: Any, make_picture: Any, tmp_path: Path
) -> None:
    _started(model, tmp_path).embed(make_picture(40))
    picture = make_picture(40)

    was_made = _started(model, tmp_path).precompute(picture)

    assert (was_made, model.embedded, picture.loaded) == (False, [40], 0)


def test_precomputing_ends_when_the_file_is_there_and_takes_no_place_on_the_device(
    model: Any, make_picture: Any, tmp_path: Path
) -> None:
    segmenter, release = _started(model, tmp_path), threading.Event()
    model.on_to_bytes = lambda: release.wait(60)

    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(segmenter.precompute, make_picture(40))
        with pytest.raises(TimeoutError):
            working.result(0.1)
        release.set()
        assert working.result(60)

    assert segmenter.cache_stats()["device"].entries == 0
    assert segmenter.cache_stats()["disk"].entries == 1
    assert list(tmp_path.glob("locks/*")) == []


def test_8_threads_that_precompute_equal_pictures_embed_each_once(
    model: Any, make_picture: Any, tmp_path: Path
) -> None:
    segmenter = _started(model, tmp_path)

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda number: segmenter.precompute(make_picture(10 + number % 3)), range(24)))

    assert sorted(model.embedded) == [10, 11, 12]
    assert sum(made) == 3


def test_precomputing_onto_a_disk_that_cannot_be_written_to_is_an_error(model: Any, make_picture: Any) -> None:
    with pytest.raises(OSError, match="/proc/embeddings"):
        _started(model, Path("/proc/embeddings")).precompute(make_picture(40))


def test_without_a_disk_there_is_nothing_to_precompute_for(segmenter: Any, make_picture: Any) -> None:
    with pytest.raises(OSError, match="no folder"):
        segmenter.precompute(make_picture(40))
    with pytest.raises(OSError, match="no folder"):
        segmenter.disk_room()


def test_who_is_told_to_stop_when_its_turn_has_come_embeds_nothing_and_keeps_no_lock(
    model: Any, make_picture: Any, tmp_path: Path
) -> None:
    segmenter = _started(model, tmp_path)

    with pytest.raises(InterruptedError):
        segmenter.precompute(make_picture(40), before_embedding=_raising(InterruptedError("stopped")))

    assert model.embedded == []
    assert segmenter.precompute(make_picture(40))
    assert list(tmp_path.glob("locks/*")) == []


def test_the_room_on_disk_is_counted_in_embeddings(model: Any, tmp_path: Path) -> None:
    segmenter = _started(model, tmp_path)  # 10,000 bytes; each embedding has 100 and a kilobyte about it

    assert segmenter.disk_room() == 8


class _Settling(Segmenter[Any]):
    """One that returns from `embed` when the file is written."""

    def embed(self, picture: Any, **options: Any) -> Any:
        embedding = super().embed(picture, **options)
        assert self._disk is not None
        self._disk.flush()
        return embedding


def _started(
    model: Any,
    folder: Path,
    *,
    version: str = "fake@1",
    cache: EmbeddingCache[Any] | None = None,
    settles: bool = True,
) -> Any:
    """A segmenter as after a restart, with a disk tier: its own device tier is empty."""
    segmenter = (_Settling if settles else Segmenter)(
        lambda: model,
        model_version=version,
        cache=cache or EmbeddingCache(1000),
        device=DeviceSchedule(max_waiting=100, wait_seconds=5),
        disk=EmbeddingDisk(folder, 10_000),
    )
    warmed_up = len(model.embedded)
    segmenter.start().join()
    del model.embedded[warmed_up:]
    return segmenter


def _segmenter(
    load_model: Callable[[], Any],
    version: str = "fake@1",
    cache: EmbeddingCache[Any] | None = None,
    wait_seconds: float = 5,
    pixels: PixelBudget | None = None,
) -> Segmenter[Any]:
    return Segmenter(
        load_model,
        model_version=version,
        cache=cache or EmbeddingCache(1000),
        device=DeviceSchedule(max_waiting=8, wait_seconds=5),
        wait_seconds=wait_seconds,
        pixels=pixels,
    )


def _raising(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise type(error)(*error.args)

    return fail


def _raise_next(errors: Any) -> None:
    for error in errors:
        raise error


def test_who_waits_for_anothers_embedding_waits_and_does_not_embed(
    segmenter: Any, model: Any, make_picture: Any, until: Any
) -> None:
    begun, release = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert release.wait(10)

    def stages_of_a_click() -> list[str]:
        with listening() as times:
            segmenter.segment(make_picture(20), [CLICK])
        return list(times.seconds)

    model.on_embed = hold
    with ThreadPoolExecutor(2) as threads:
        leader = threads.submit(stages_of_a_click)
        assert begun.wait(10)
        follower = threads.submit(stages_of_a_click)
        until(lambda: segmenter._clicked.total() == 2)
        release.set()

    assert leader.result() == ["queue", "embed", "predict"]
    assert follower.result() == ["wait", "queue", "predict"]


def test_it_tells_how_many_wait_for_the_device_by_what_for(segmenter: Any) -> None:
    assert segmenter.waiting() == {"predict": 0, "embed": 0, "prefetch": 0}
