import base64
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from labelstudio_sam2.errors import BackendError, ImageForbiddenError, ImageUnavailableError
from labelstudio_sam2.images.source import ImageSource
from labelstudio_sam2.settings import SettingsError

UPLOAD = "/data/upload/1/cat.png"
REFRESH = "/api/token/refresh/"

Make = Callable[..., ImageSource]


def jwt(**claims: object) -> str:
    parts = [{"alg": "HS256", "typ": "JWT"}, claims]
    return ".".join(
        [*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), "x"]
    )


PAT = jwt(token_type="refresh", jti="s3cret")


class TokenShop:
    """Label Studio's end: sells access tokens, numbered, and takes those it has not revoked."""

    def __init__(self, site: Any, reply: Callable[..., None], picture: bytes) -> None:
        self.site = site
        self.sold = 0
        self.revoked: set[str] = set()
        site.on(REFRESH, lambda handler: reply(handler, 200, json.dumps({"access": self.sell()}).encode()))
        site.on(UPLOAD, lambda handler: reply(handler, self.status(handler), picture))

    def sell(self) -> str:
        self.sold += 1
        return self.access(self.sold)

    def access(self, number: int) -> str:
        return jwt(token_type="access", iat=5000, exp=5300, number=number)

    def status(self, handler: Any) -> int:
        token = str(handler.headers.get("Authorization")).removeprefix("Bearer ")
        return 401 if token in self.revoked or token == PAT or "." not in token else 200


@pytest.fixture
def shop(label_studio: Any, reply: Callable[..., None], png: bytes) -> TokenShop:
    return TokenShop(label_studio, reply, png)


def find(source: ImageSource) -> None:
    source.find(UPLOAD, project="1", task_id=7)


def test_a_personal_access_token_is_exchanged_and_never_sent_with_a_download(
    make_source: Make, label_studio: Any, shop: TokenShop
) -> None:
    find(make_source(label_studio_api_key=PAT))

    exchange, download = label_studio.seen
    assert (exchange.method, exchange.target, json.loads(exchange.body)) == ("POST", REFRESH, {"refresh": PAT})
    assert "authorization" not in exchange.headers
    assert download.headers["authorization"] == f"Bearer {shop.access(1)}"


def test_an_access_token_serves_until_shortly_before_it_expires(make_source: Make, shop: TokenShop, clock: Any) -> None:
    source = make_source(label_studio_api_key=PAT, clock=clock, image_revalidate_seconds=0)

    find(source)
    clock.now += 269
    find(source)
    assert shop.sold == 1

    clock.now += 2
    find(source)
    assert shop.sold == 2


def test_a_refused_access_token_is_bought_again_once(make_source: Make, shop: TokenShop) -> None:
    source = make_source(label_studio_api_key=PAT, image_revalidate_seconds=0)
    find(source)
    shop.revoked = {shop.access(1)}

    find(source)

    assert shop.sold == 2


def test_a_user_without_access_is_asked_twice_and_no_more(
    make_source: Make, label_studio: Any, shop: TokenShop
) -> None:
    shop.revoked = {shop.access(n) for n in range(10)}

    with pytest.raises(ImageForbiddenError, match="401"):
        find(make_source(label_studio_api_key=PAT))

    assert (shop.sold, len(label_studio.seen)) == (2, 4)


def test_many_downloads_buy_one_access_token(
    make_source: Make, label_studio: Any, shop: TokenShop, reply: Callable[..., None], png: bytes
) -> None:
    source = make_source(label_studio_api_key=PAT)
    for n in range(8):
        label_studio.serves(f"/data/upload/{n}/x.png", png)
    threads = [
        threading.Thread(target=source.find, args=(f"/data/upload/{n}/x.png",), kwargs={"project": "1", "task_id": 7})
        for n in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert shop.sold == 1


def test_an_access_token_given_as_the_key_is_sent_as_it_is(
    make_source: Make, label_studio: Any, shop: TokenShop
) -> None:
    access = shop.access(5)

    find(make_source(label_studio_api_key=access))

    assert label_studio.tokens == [f"Bearer {access}"]


def test_without_a_key_nothing_is_sent_and_the_refusal_names_the_setting(
    make_source: Make, label_studio: Any, shop: TokenShop
) -> None:
    with pytest.raises(ImageForbiddenError, match="LABEL_STUDIO_API_KEY"):
        find(make_source())

    assert label_studio.tokens == [None]


@pytest.mark.parametrize(("status", "error"), [(401, ImageForbiddenError), (500, ImageUnavailableError)])
def test_a_refused_exchange_is_said_without_the_token(
    make_source: Make, label_studio: Any, status: int, error: type[BackendError]
) -> None:
    label_studio.says(REFRESH, status)

    with pytest.raises(error, match=str(status)) as caught:
        find(make_source(label_studio_api_key=PAT))

    assert PAT not in str(caught.value)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"{}", b'{"access": 1}', b'{"access": "a\\nb"}'])
def test_an_answer_without_a_token_is_an_error(make_source: Make, label_studio: Any, answer: bytes) -> None:
    label_studio.serves(REFRESH, answer)

    with pytest.raises(ImageUnavailableError, match="no access token"):
        find(make_source(label_studio_api_key=PAT))


def test_a_failed_exchange_is_tried_again_the_next_time(make_source: Make, label_studio: Any, shop: TokenShop) -> None:
    sells = label_studio.answers[REFRESH]
    label_studio.says(REFRESH, 503)
    source = make_source(label_studio_api_key=PAT)
    with pytest.raises(ImageUnavailableError):
        find(source)

    label_studio.on(REFRESH, sells)
    find(source)

    assert shop.sold == 1


def test_the_exchange_is_asked_under_label_studios_own_path(
    make_source: Make, label_studio: Any, shop: TokenShop, png: bytes
) -> None:
    label_studio.answers = {f"/ls{path}": answer for path, answer in label_studio.answers.items()}

    find(make_source(label_studio_api_key=PAT, label_studio_url=f"{label_studio.url}/ls"))

    assert [request.target for request in label_studio.seen] == [f"/ls{REFRESH}", f"/ls{UPLOAD}"]


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_can_carry_stops_the_start_without_being_shown(make_source: Make, key: str) -> None:
    with pytest.raises(SettingsError, match="LABEL_STUDIO_API_KEY") as caught:
        make_source(label_studio_api_key=key)

    assert key not in str(caught.value)


def test_a_line_break_at_the_end_of_the_key_is_forgiven(make_source: Make, label_studio: Any, png: bytes) -> None:
    label_studio.serves(UPLOAD, png)

    find(make_source(label_studio_api_key="abc\n"))

    assert label_studio.tokens == ["Token abc"]


@pytest.mark.parametrize(
    ("key", "kind", "expires_at"),
    [
        (None, "none", None),
        ("a1" * 20, "legacy", None),
        (jwt(token_type="refresh", exp=1_800_000_000), "personal", 1_800_000_000),
        (jwt(token_type="refresh"), "personal", None),
        (jwt(token_type="access", exp="soon"), "access", None),
    ],
)
def test_a_key_tells_its_kind_and_when_it_expires_without_a_request(
    make_source: Make, label_studio: Any, key: str | None, kind: str, expires_at: float | None
) -> None:
    token = make_source(label_studio_api_key=key)._fetcher._token

    assert (token.kind, token.expires_at) == (kind, expires_at)
    assert label_studio.seen == []
