"""Several models behind one name each. What is loaded are fakes."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from labelstudio_sam2.errors import ModelLoadingError, ModelUnavailableError, UnknownModelError
from labelstudio_sam2.segmenter.device_schedule import DeviceSchedule
from labelstudio_sam2.segmenter.embedding_cache import EmbeddingCache
from labelstudio_sam2.segmenter.models import Models, extra_specs
from labelstudio_sam2.segmenter.segmenter import Segmenter


def make_segmenter(load: Callable[[], Any], name: str = "tiny", cache: EmbeddingCache[Any] | None = None) -> Any:
    return Segmenter(
        load,
        model_version=name,
        cache=cache or EmbeddingCache(1000),
        device=DeviceSchedule(max_waiting=4, wait_seconds=5),
    )


def make_models(model: Any, extras: dict[str, Callable[[], Any]], *, wait_seconds: float = 5) -> Models[Any, Any]:
    served = make_segmenter(lambda: model, "nano")
    served.start().join()
    return Models("nano", served, extras=extras, view=lambda segmenter: segmenter, wait_seconds=wait_seconds)


@pytest.mark.parametrize("name", [None, "nano", "sam2/nano"])
def test_the_served_model_answers_to_no_name_and_to_its_own(model: Any, name: str | None) -> None:
    models = make_models(model, {})

    assert models.get(name).model_version == "nano"


def test_an_extra_model_is_loaded_when_first_asked_for_and_only_once(model: Any) -> None:
    loads: list[str] = []

    def load() -> Any:
        loads.append("tiny")
        return model

    models = make_models(model, {"sam2/hiera_tiny": lambda: make_segmenter(load)})
    before = (list(loads), models.loaded_ids)

    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(models.get, ["hiera_tiny", "sam2/hiera_tiny"] * 4))

    assert before == ([], ["nano"])
    assert loads == ["tiny"]
    assert {segmenter.model_version for segmenter in got} == {"tiny"}
    assert len({id(segmenter) for segmenter in got}) == 1
    assert models.loaded_ids == ["nano", "sam2/hiera_tiny"]


@pytest.mark.parametrize("name", ["", "hiera_huge", "sam2/hiera_large", "sam2.0/hiera_tiny", "../nano", "NANO"])
def test_another_model_is_refused_and_those_that_are_served_are_named(model: Any, name: str) -> None:
    models = make_models(model, {"sam2/hiera_tiny": lambda: make_segmenter(lambda: model)})

    with pytest.raises(UnknownModelError, match=r"ask for one of: nano, sam2/hiera_tiny$"):
        models.get(name)


def test_who_asks_for_a_model_that_takes_too_long_is_told_to_try_again_and_later_gets_it(model: Any) -> None:
    release = threading.Event()

    def load() -> Any:
        assert release.wait(10)
        return model

    models = make_models(model, {"sam2/hiera_tiny": lambda: make_segmenter(load)}, wait_seconds=0.05)

    with pytest.raises(ModelLoadingError):
        models.get("hiera_tiny")
    while_loading = models.loaded_ids
    release.set()
    while models.loaded_ids == ["nano"]:
        threading.Event().wait(0.01)

    assert while_loading == ["nano"]
    assert models.get("hiera_tiny").model_version == "tiny"


def test_a_model_that_cannot_be_loaded_is_not_tried_again_until_it_is_removed(model: Any) -> None:
    loads: list[str] = []

    def load() -> Any:
        loads.append("tiny")
        if len(loads) == 1:
            raise ModelUnavailableError("weights/tiny.pt is missing")
        return model

    models = make_models(model, {"sam2/hiera_tiny": lambda: make_segmenter(load)})

    for _ in range(2):
        with pytest.raises(ModelUnavailableError, match=r"weights/tiny\.pt is missing"):
            models.get("hiera_tiny")
    tried, listed = len(loads), models.loaded_ids
    models.remove("hiera_tiny")

    assert (tried, listed) == (1, ["nano"])
    assert models.get("hiera_tiny").state == "ready"


@pytest.mark.parametrize("take_away", ["remove", "clear"])
def test_what_is_taken_away_is_loaded_anew_when_asked_for_and_the_served_model_stays(
    model: Any, take_away: str
) -> None:
    models = make_models(model, {"sam2/hiera_tiny": lambda: make_segmenter(lambda: model)})
    first, served = models.get("hiera_tiny"), models.get()

    if take_away == "clear":
        models.clear()
    else:
        models.remove("sam2/hiera_tiny")
        models.remove("nano")

    assert models.loaded_ids == ["nano"]
    assert models.get() is served
    assert models.get("hiera_tiny") is not first


def test_two_models_on_one_cache_keep_their_embeddings_apart(model: Any, make_picture: Callable[[int], Any]) -> None:
    cache: EmbeddingCache[Any] = EmbeddingCache(1000)
    served = make_segmenter(lambda: model, "nano", cache)
    served.start().join()
    extras = {"sam2/hiera_tiny": lambda: make_segmenter(lambda: model, "tiny", cache)}
    models = Models("nano", served, extras=extras, view=lambda segmenter: segmenter)
    picture = make_picture(20)

    models.get().embed(picture)

    assert models.get().cached(picture.sha256) is not None
    assert models.get("hiera_tiny").cached(picture.sha256) is None


@pytest.mark.parametrize("take_away", ["remove", "clear"])
def test_what_is_taken_away_leaves_no_embedding_and_the_served_models_stay(
    model: Any, make_picture: Callable[[int], Any], take_away: str
) -> None:
    cache: EmbeddingCache[Any] = EmbeddingCache(1000)
    served = make_segmenter(lambda: model, "tiny@10", cache)
    served.start().join()
    forgotten: list[str] = []

    def forget(model_version: str) -> None:
        forgotten.append(model_version)
        cache.drop(f"{model_version}:")

    extras = {
        "sam2/hiera_tiny": lambda: make_segmenter(lambda: model, "tiny@1", cache),
        "same": lambda: make_segmenter(lambda: model, "tiny@10", cache),
    }
    models = Models("nano", served, extras=extras, view=lambda segmenter: segmenter, forget=forget)
    picture = make_picture(20)
    for name in ("nano", "hiera_tiny", "same"):
        models.get(name).embed(picture)

    if take_away == "clear":
        models.clear()
    else:
        for name in ("hiera_tiny", "same", "nano"):
            models.remove(name)

    assert forgotten == ["tiny@1"]
    assert (cache.stats().entries, cache.stats().nbytes) == (1, 100)
    assert served.cached(picture.sha256) is not None


@pytest.mark.parametrize("is_wanted_again", [True, False])
def test_what_is_removed_while_it_loads_is_not_loaded_a_second_time_beside_it(
    model: Any,
    is_wanted_again: bool,  # noqa: FBT001
) -> None:
    release, gone = threading.Event(), threading.Event()
    loads: list[str] = []

    def load() -> Any:
        loads.append("tiny")
        assert release.wait(10)
        return model

    served = make_segmenter(lambda: model, "nano")
    served.start().join()
    models = Models(
        "nano",
        served,
        extras={"sam2/hiera_tiny": lambda: make_segmenter(load)},
        view=lambda segmenter: segmenter,
        forget=lambda _: gone.set(),
        wait_seconds=0.05,
    )

    with pytest.raises(ModelLoadingError):
        models.get("hiera_tiny")
    models.remove("hiera_tiny")
    if is_wanted_again:
        with pytest.raises(ModelLoadingError):
            models.get("hiera_tiny")
    release.set()

    assert gone.wait(0.2 if is_wanted_again else 5) is not is_wanted_again
    assert loads == ["tiny"]
    assert models.loaded_ids == (["nano", "sam2/hiera_tiny"] if is_wanted_again else ["nano"])


def test_a_cache_smaller_than_an_embedding_is_warned_of_once(
    model: Any, make_picture: Callable[[int], Any], caplog: pytest.LogCaptureFixture
) -> None:
    segmenter = make_segmenter(lambda: model, "tiny", EmbeddingCache(99))
    segmenter.start().join()

    for gray in (1, 2, 3):
        segmenter.embed(make_picture(gray))

    assert [record.levelname for record in caplog.records if "EMBEDDING_CACHE_MB" in record.getMessage()] == ["WARNING"]


def test_extra_models_are_known_by_either_spelling() -> None:
    assert list(extra_specs(["hiera_tiny", "sam2/hiera_large", "nano"])) == [
        "sam2/hiera_tiny",
        "sam2/hiera_large",
        "nano",
    ]


@pytest.mark.parametrize("name", ["hiera_huge", "/weights/own.pt"])
def test_an_extra_model_that_is_not_known_is_told_by_its_variable(name: str) -> None:
    with pytest.raises(ValueError, match=r"^EXTRA_MODELS: .*sam2/hiera_tiny"):
        extra_specs([name])
