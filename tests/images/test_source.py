import base64
import builtins
import gc
import hashlib
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelstudio_sam2.errors import (
    ImageTooLargeError,
    ImageUnavailableError,
    ImageUnreadableError,
    UrlRefusedError,
)
from labelstudio_sam2.images import source as source_module
from labelstudio_sam2.images.decode import ImageLimits
from labelstudio_sam2.images.source import ImageSource, Picture

UPLOAD = "/data/upload/1/cat.png"

Make = Callable[..., ImageSource]


def find(source: ImageSource, address: str = UPLOAD, project: str = "1") -> Picture:
    return source.find(address, project=project, task_id=7)


def serves_with_etag(site: Any, reply: Callable[..., None], path: str, data: bytes, etag: str) -> None:
    def answer(handler: Any) -> None:
        if handler.headers.get("If-None-Match") == etag:
            reply(handler, 304, b"", {"ETag": etag})
        else:
            reply(handler, 200, data, {"ETag": etag})

    site.on(path, answer)


def test_a_picture_is_known_by_its_hash_and_its_upright_size(make_source: Make, label_studio: Any, png: bytes) -> None:
    label_studio.serves(UPLOAD, png)

    picture = find(make_source())

    assert picture.sha256 == hashlib.sha256(png).hexdigest()
    assert picture.size_hw == (2, 3)
    np.testing.assert_array_equal(picture.load(), np.zeros((2, 3, 3)))


def test_finding_and_loading_downloads_once(make_source: Make, label_studio: Any, png: bytes) -> None:
    label_studio.serves(UPLOAD, png)
    source = make_source()

    find(source).load()
    find(source).load()

    assert len(label_studio.seen) == 1


def test_a_picture_whose_bytes_are_gone_is_downloaded_again(
    make_source: Make, label_studio: Any, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "MAX_HELD_BYTES", 0)
    label_studio.serves(UPLOAD, png)
    source = make_source()
    find(source)

    picture = find(source)
    assert len(label_studio.seen) == 1
    picture.load()

    assert len(label_studio.seen) == 2


def test_a_picture_that_changed_before_it_was_loaded_is_an_error(
    make_source: Make, label_studio: Any, png: bytes, other_png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "MAX_HELD_BYTES", 0)
    label_studio.serves(UPLOAD, png)
    source = make_source()
    find(source)
    label_studio.serves(UPLOAD, other_png)

    with pytest.raises(ImageUnavailableError, match="just changed"):
        find(source).load()


def test_held_files_are_bounded_by_bytes(
    make_source: Make, label_studio: Any, png: bytes, other_png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "MAX_HELD_BYTES", len(png) + 1)
    label_studio.serves("/data/upload/1/a.png", png)
    label_studio.serves("/data/upload/1/b.png", other_png)
    source = make_source()
    find(source, "/data/upload/1/a.png")
    find(source, "/data/upload/1/b.png")  # pushes a.png out

    find(source, "/data/upload/1/b.png").load()
    assert len(label_studio.seen) == 2
    find(source, "/data/upload/1/a.png").load()

    assert len(label_studio.seen) == 3


def test_a_picture_keeps_its_own_bytes_while_it_lives_and_no_longer(
    make_source: Make, label_studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "MAX_HELD_BYTES", 0)
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "BMP")
    label_studio.serves(UPLOAD, file.getvalue())
    source = make_source()
    size = file.tell()

    def held() -> int:
        gc.collect()
        return sum(type(thing) is bytes and len(thing) == size for cell in gc.get_objects() for thing in content(cell))

    def content(cell: object) -> list[object]:
        return gc.get_referents(cell) if type(cell).__name__ in {"cell", "dict", "OrderedDict"} else []

    picture = find(source)
    picture.load()
    assert len(label_studio.seen) == 1
    assert held() == 2  # the picture's, and `file.getvalue()` in the server's answer
    del picture

    assert held() == 1


def test_within_the_window_no_request_is_made(
    make_source: Make, label_studio: Any, clock: Any, png: bytes, other_png: bytes
) -> None:
    label_studio.serves(UPLOAD, png)
    source = make_source(clock=clock)
    first = find(source)
    label_studio.serves(UPLOAD, other_png)

    clock.now += 9.9
    again = find(source)

    assert again == first
    assert len(label_studio.seen) == 1


def test_after_the_window_a_replaced_picture_is_noticed(
    make_source: Make, label_studio: Any, clock: Any, png: bytes, other_png: bytes
) -> None:
    label_studio.serves(UPLOAD, png)
    source = make_source(clock=clock)
    first = find(source)
    label_studio.serves(UPLOAD, other_png)

    clock.now += 10.1
    again = find(source)

    assert again.sha256 == hashlib.sha256(other_png).hexdigest() != first.sha256
    assert (again.load() == 1).all()
    assert (first.load() == 0).all()


def test_a_server_without_validators_is_believed_by_the_files_hash(
    make_source: Make, label_studio: Any, clock: Any, png: bytes
) -> None:
    label_studio.serves(UPLOAD, png)
    source = make_source(clock=clock)
    first = find(source)

    clock.now += 11
    assert find(source) == first
    clock.now += 9
    assert find(source) == first  # the second look opened a new window

    assert len(label_studio.seen) == 2


def test_a_file_that_is_not_modified_is_not_sent_again(
    make_source: Make, label_studio: Any, clock: Any, reply: Callable[..., None], png: bytes
) -> None:
    serves_with_etag(label_studio, reply, UPLOAD, png, 'W/"18f-44"')
    source = make_source(clock=clock)
    first = find(source)

    clock.now += 11
    assert find(source) == first
    clock.now += 11
    assert find(source).load().shape == (2, 3, 3)

    conditions = [request.headers.get("if-none-match") for request in label_studio.seen]
    assert conditions == [None, 'W/"18f-44"', 'W/"18f-44"']


def test_a_file_with_a_new_etag_is_a_new_picture(
    make_source: Make, label_studio: Any, clock: Any, reply: Callable[..., None], png: bytes, other_png: bytes
) -> None:
    serves_with_etag(label_studio, reply, UPLOAD, png, '"a"')
    source = make_source(clock=clock)
    first = find(source)
    serves_with_etag(label_studio, reply, UPLOAD, other_png, '"b"')

    clock.now += 11

    assert find(source) != first


def test_the_date_is_asked_with_where_there_is_no_etag(
    make_source: Make, label_studio: Any, clock: Any, png: bytes
) -> None:
    date = "Sun, 22 Nov 2026 12:00:00 GMT"
    label_studio.serves(UPLOAD, png, Last_Modified=date)
    source = make_source(clock=clock)
    find(source)

    clock.now += 11
    find(source)

    assert [request.headers.get("if-modified-since") for request in label_studio.seen] == [None, date]


def test_an_etag_made_of_a_users_id_is_not_trusted(
    make_source: Make, label_studio: Any, clock: Any, reply: Callable[..., None], png: bytes, other_png: bytes
) -> None:
    serves_with_etag(label_studio, reply, "/tasks/7/presign/", png, '"31"')  # user 3, has access, no ETag of the file
    source = make_source(clock=clock)
    first = find(source, "gs://bucket/cat.png")
    serves_with_etag(label_studio, reply, "/tasks/7/presign/", other_png, '"31"')

    clock.now += 11

    assert find(source, "gs://bucket/cat.png") != first


def test_validators_are_shown_to_nobody_but_who_gave_them(
    make_source: Make, label_studio: Any, stranger: Any, clock: Any, reply: Callable[..., None], png: bytes
) -> None:
    label_studio.redirects(UPLOAD, f"{stranger.url}/cat.png")
    serves_with_etag(stranger, reply, "/cat.png", png, '"abc"')
    source = make_source(clock=clock, allowed_image_hosts=f"127.0.0.1:{stranger.port}")
    first = find(source)

    clock.now += 11
    assert find(source) == first

    assert [request.headers.get("if-none-match") for request in label_studio.seen] == [None, None]
    assert [request.headers.get("if-none-match") for request in stranger.seen] == [None, '"abc"']


def test_what_one_project_saw_is_not_believed_in_another(make_source: Make, label_studio: Any, png: bytes) -> None:
    label_studio.serves(UPLOAD, png)
    source = make_source()
    find(source, project="1")
    label_studio.says(UPLOAD, 403)

    with pytest.raises(ImageUnavailableError):
        find(source, project="2")

    assert len(label_studio.seen) == 2


def test_access_taken_away_is_noticed_after_the_window(
    make_source: Make, label_studio: Any, clock: Any, png: bytes
) -> None:
    label_studio.serves(UPLOAD, png)
    source = make_source(clock=clock)
    find(source)
    label_studio.says(UPLOAD, 403)

    clock.now += 11

    with pytest.raises(ImageUnavailableError):
        find(source)


def test_a_new_signature_hits_what_the_old_one_found(make_source: Make, stranger: Any, png: bytes) -> None:
    stranger.serves("/cat.png", png)
    source = make_source(allowed_image_hosts=f"127.0.0.1:{stranger.port}")

    one = find(source, f"{stranger.url}/cat.png?X-Amz-Signature=1")
    two = find(source, f"{stranger.url}/cat.png?X-Amz-Signature=2")

    assert one == two
    assert len(stranger.seen) == 1


def test_a_failure_is_not_remembered(make_source: Make, label_studio: Any, png: bytes) -> None:
    label_studio.says(UPLOAD, 500)
    source = make_source()
    with pytest.raises(ImageUnavailableError):
        find(source)

    label_studio.serves(UPLOAD, png)

    assert find(source).size_hw == (2, 3)


def test_fifty_threads_that_ask_at_once_share_one_download(
    make_source: Make, label_studio: Any, reply: Callable[..., None], png: bytes
) -> None:
    def answer(handler: Any) -> None:
        time.sleep(0.2)
        reply(handler, 200, png)

    label_studio.on(UPLOAD, answer)
    source = make_source()
    found: list[Picture] = []
    start = threading.Barrier(50)

    def ask() -> None:
        start.wait()
        found.append(find(source))

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 50
    assert len(set(found)) == 1
    assert len(label_studio.seen) == 1


def test_a_look_that_ended_just_before_this_one_began_is_believed(
    make_source: Make, label_studio: Any, png: bytes
) -> None:
    class OneAfterTheOther:
        """Two threads found nothing known; the second takes off when the first has landed."""

        def do(self, key: object, work: Callable[[], Picture], *, timeout_seconds: float) -> Picture:
            work()
            return work()

    label_studio.serves(UPLOAD, png)
    source = make_source()
    source._flights = OneAfterTheOther()  # type: ignore[assignment]

    assert find(source).size_hw == (2, 3)

    assert len(label_studio.seen) == 1


def test_the_map_is_bounded_and_forgets_the_longest_unused(
    make_source: Make, label_studio: Any, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "MAX_KNOWN", 2)
    for name in "abc":
        label_studio.serves(f"/data/upload/1/{name}.png", png)
    source = make_source()

    for name in "ab" + "a" + "c" + "a" + "b":  # c pushes b out, b is asked for again
        find(source, f"/data/upload/1/{name}.png")

    asked = [request.target[-5] for request in label_studio.seen]
    assert asked == ["a", "b", "c", "b"]


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(make_source: Make, label_studio: Any) -> None:
    file = io.BytesIO()
    Image.new("1", (1200, 1000)).save(file, "PNG")
    label_studio.serves(UPLOAD, file.getvalue())

    with pytest.raises(ImageTooLargeError, match="1200 x 1000"):
        find(make_source(max_image_megapixels=1))


@pytest.mark.parametrize("data", [b"", b"<html>Log in</html>"])
def test_a_page_instead_of_a_picture_is_unreadable(make_source: Make, label_studio: Any, data: bytes) -> None:
    label_studio.serves(UPLOAD, data)

    with pytest.raises(ImageUnreadableError):
        find(make_source())


def test_label_studios_public_address_is_asked_at_its_inner_one(
    make_source: Make, label_studio: Any, stranger: Any, png: bytes
) -> None:
    label_studio.serves("/data/local-files/", png)

    find(make_source(label_studio_api_key="abc"), f"http://localhost:{stranger.port}/data/local-files/?d=a/cat.png")

    assert label_studio.seen[0].target == "/data/local-files/?d=a/cat.png"
    assert label_studio.tokens == ["Token abc"]
    assert stranger.seen == []


def test_a_data_address_is_its_own_picture(make_source: Make, label_studio: Any, png: bytes) -> None:
    picture = find(make_source(), "data:image/png;base64," + base64.b64encode(png).decode())

    assert picture.sha256 == hashlib.sha256(png).hexdigest()
    assert picture.load().shape == (2, 3, 3)
    assert label_studio.seen == []


def test_a_data_address_may_be_percent_encoded(make_source: Make, png: bytes) -> None:
    encoded = base64.b64encode(png).decode().replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")

    assert find(make_source(), f"DATA:image/png;BASE64,{encoded}").size_hw == (2, 3)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("data:", UrlRefusedError),
        ("data:text/html;base64,PGh0bWw+", UrlRefusedError),
        ("data:image/svg+xml,<svg/>", UrlRefusedError),
        ("data:image/svg+xml;base64,PHN2Zy8+", ImageUnreadableError),
        ("data:image/png;base64,*", ImageUnreadableError),
        ("data:image/png;base64,\ud800", ImageUnreadableError),
        ("data:image/png;base64,", ImageUnreadableError),
        ("data:image/png;base64," + "A" * 2_000_000, ImageTooLargeError),
        ("data:image/png;base64," + "A" * 5_000_000, ImageTooLargeError),
    ],
)
def test_a_bad_data_address_is_refused(make_source: Make, address: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        find(make_source(max_image_mb=1), address)


def test_no_file_of_this_machine_is_opened(
    make_source: Make, label_studio: Any, png: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "cat.png"
    planted.write_bytes(png)
    source = make_source()
    opened: list[object] = []
    real = builtins.open

    def noting(file: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(file)
        return real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", noting)

    for address in (
        str(planted),
        planted.as_uri(),
        f"/data/local-files/?d={planted}",
        f"/data/upload/{planted}",
        f"/data/upload/../../..{planted}",
        f"data:image/png;base64,{planted}",
    ):
        with pytest.raises((UrlRefusedError, ImageUnavailableError, ImageUnreadableError)):
            find(source, address)

    assert opened == []


def test_a_picture_can_be_made_of_bytes(png: bytes) -> None:
    picture = Picture.of(png, ImageLimits(1000, 6))

    assert picture.size_hw == (2, 3)
    assert picture.load().shape == (2, 3, 3)
    with pytest.raises(ImageTooLargeError):
        Picture.of(png, ImageLimits(1000, 5))
