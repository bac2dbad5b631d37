"""Downloading from a server that misbehaves."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from labelstudio_sam2.weights.download import Part, download
from labelstudio_sam2.weights.errors import WeightsError

HALF = "bytes=50000-"


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return Part(tmp_path / "made_up.pt.part")


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def get(weights_server: Any, part: Part, report: Any, pauses: list[float]) -> Any:
    """Return a function that downloads the server's file, without pauses between the tries."""

    def get(
        url: str = weights_server.url, pause: Callable[[float], None] = pauses.append, stall_bytes: int = 1000
    ) -> bytes:
        download(url, part, 100_000, report, pause=pause, stall_seconds=0.5, stall_bytes=stall_bytes)
        return part.path.read_bytes()

    return get


def test_a_download_that_is_cut_goes_on_where_it_ended(weights_server: Any, get: Any, report: Any) -> None:
    weights_server.answers.append("cut")

    content = get()

    assert content == weights_server.content
    assert weights_server.body_bytes == 100_000  # nothing twice
    assert [request[1:] for request in weights_server.requests] == [(None, None), (HALF, '"1"')]
    assert report.sizes == sorted(report.sizes)
    assert report.sizes[-1] == 100_000


def test_a_server_that_falls_silent_is_asked_for_the_rest(weights_server: Any, get: Any, report: Any) -> None:
    weights_server.answers.append("hang")

    assert get() == weights_server.content

    assert [request[1] for request in weights_server.requests] == [None, HALF]
    assert report.texts == ["127.0.0.1 is silent; trying again in 1 s"]


def test_a_server_that_sends_next_to_nothing_is_asked_for_the_rest(weights_server: Any, get: Any, report: Any) -> None:
    weights_server.answers.append("drip")

    assert get() == weights_server.content

    assert len(weights_server.requests) == 2
    assert report.texts == ["127.0.0.1 sends next to nothing; trying again in 1 s"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [("drip", "sends next to nothing, 5 times in a row"), ("hang", "is silent, 5 times in a row")],
)
def test_a_server_that_stalls_again_and_again_is_given_up_though_it_brings_a_little(
    weights_server: Any, get: Any, answer: str, message: str
) -> None:
    weights_server.answers.extend([answer] * 9)

    with pytest.raises(WeightsError, match=message):
        get(stall_bytes=60_000)  # the first half is less

    assert len(weights_server.requests) == 5


def test_what_an_earlier_command_left_is_gone_on_from(weights_server: Any, get: Any, part: Part) -> None:
    part.path.write_bytes(weights_server.content[:70_000])

    assert get() == weights_server.content

    assert weights_server.body_bytes == 30_000


def test_a_whole_part_needs_no_request(weights_server: Any, get: Any, part: Part) -> None:
    part.path.write_bytes(weights_server.content)

    assert get() == weights_server.content

    assert weights_server.requests == []


def test_a_part_that_is_too_long_is_thrown_away(weights_server: Any, get: Any, part: Part) -> None:
    part.path.write_bytes(weights_server.content + b"more")

    assert get() == weights_server.content


def test_a_server_that_cannot_go_on_sends_all_of_it_again(weights_server: Any, get: Any, report: Any) -> None:
    weights_server.honors_range = False
    weights_server.answers.append("cut")

    assert get() == weights_server.content

    assert weights_server.body_bytes == 150_000
    assert report.texts[-1] == "the server does not go on from what is there, beginning anew"


def test_a_server_that_cannot_go_on_and_cuts_at_the_same_place_is_given_up(
    weights_server: Any, get: Any, pauses: list[float]
) -> None:
    weights_server.honors_range = False
    weights_server.answers.extend(["cut"] * 9)

    with pytest.raises(WeightsError, match="5 times in a row"):
        get()

    assert pauses == [1, 2, 4, 8, 16]


def test_a_part_that_another_process_takes_away_is_no_success_and_no_endless_loop(
    weights_server: Any, get: Any, part: Part, report: Any, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_away(size_bytes: int) -> None:
        if size_bytes == 100_000 and len(weights_server.requests) < 9:
            part.remove()

    monkeypatch.setattr(report, "at", take_away)

    with pytest.raises(WeightsError, match=r"made_up\.pt\.part was changed by another process, 5 times in a row"):
        get()

    assert pauses == [2, 4, 8, 16]


def test_a_file_that_changed_between_two_tries_is_begun_anew(weights_server: Any, get: Any) -> None:
    other = weights_server.content[::-1]
    weights_server.answers.append("cut")

    def change_the_file(_: float) -> None:
        weights_server.content, weights_server.etag = other, '"2"'

    assert get(pause=change_the_file) == other

    assert [request[1:] for request in weights_server.requests] == [(None, None), (HALF, '"1"')]


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_a_server_without_a_strong_etag_is_asked_for_the_rest_all_the_same(
    weights_server: Any, get: Any, etag: str | None
) -> None:
    weights_server.etag = etag
    weights_server.answers.append("cut")

    assert get() == weights_server.content

    assert weights_server.requests[-1][1:] == (HALF, None)


def test_an_etag_is_not_shown_to_another_server(weights_server: Any, get: Any, part: Part) -> None:
    part.path.write_bytes(weights_server.content[:50_000])
    part.origin.write_text('https://mirror.example/made_up.pt\n"9"\n')

    assert get() == weights_server.content

    assert weights_server.requests == [("/made_up.pt", HALF, None)]


def test_another_part_than_was_asked_for_is_not_joined_to_what_is_there(weights_server: Any, get: Any) -> None:
    weights_server.answers.extend(["cut", "elsewhere"])

    assert get() == weights_server.content

    assert [request[1] for request in weights_server.requests] == [None, HALF, None]


def test_an_overloaded_server_is_tried_again_ever_later(weights_server: Any, get: Any, pauses: list[float]) -> None:
    weights_server.answers.extend(["503", "503"])

    assert get() == weights_server.content

    assert pauses == [2, 4]


def test_a_server_that_stays_overloaded_is_given_up(weights_server: Any, get: Any, pauses: list[float]) -> None:
    weights_server.answers.extend(["503"] * 9)

    with pytest.raises(WeightsError, match=r"127\.0\.0\.1 answers 503 .*, 5 times in a row\. What came is kept"):
        get()

    assert pauses == [2, 4, 8, 16]


def test_a_line_that_is_cut_again_and_again_is_not_given_up_while_it_brings_something(
    weights_server: Any, get: Any, pauses: list[float]
) -> None:
    weights_server.answers.extend(["cut"] * 8)

    assert get() == weights_server.content

    assert pauses == [1] * 8
    assert weights_server.body_bytes == 100_000


def test_redirects_are_followed(weights_server: Any, get: Any) -> None:
    weights_server.answers.append("redirect")

    assert get() == weights_server.content

    assert [request[0] for request in weights_server.requests] == ["/made_up.pt", "/elsewhere/made_up.pt"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("404", r"There is no http://.*/made_up\.pt: 404 Not Found\. WEIGHTS_URL"),
        ("403", r"/made_up\.pt is refused: 403 Forbidden\. A proxy or a mirror may want something .* --file"),
        ("401", "is refused: 401"),
        ("418", "cannot be downloaded: 418"),
    ],
)
def test_a_refusal_is_told_at_once(weights_server: Any, get: Any, status: str, message: str) -> None:
    weights_server.answers.append(status)

    with pytest.raises(WeightsError, match=message):
        get()

    assert len(weights_server.requests) == 1


@pytest.mark.parametrize("announced", ["99999", "4294967296"])
def test_a_file_of_another_size_is_refused_before_any_of_it_is_kept(
    weights_server: Any, get: Any, part: Part, announced: str
) -> None:
    weights_server.announced = announced

    with pytest.raises(WeightsError, match=rf"made_up\.pt has {announced} bytes, 100000 are wanted: it is another"):
        get()

    assert part.size_bytes == 0


def test_more_than_was_wanted_is_refused_and_removed(weights_server: Any, get: Any, part: Part) -> None:
    weights_server.announced = ""  # so that it shows only while it comes
    weights_server.content += b"!"

    with pytest.raises(WeightsError, match="has more than the 100000 bytes that are wanted"):
        get()

    assert not part.path.exists()


def test_less_than_was_wanted_is_never_taken_for_all_of_it(weights_server: Any, get: Any, report: Any) -> None:
    weights_server.announced = ""
    weights_server.content = weights_server.content[:-1]

    with pytest.raises(WeightsError, match=r"made_up\.pt has 99999 bytes, 100000 are wanted"):
        get()  # the second answer says how long the file is

    assert report.texts == ["127.0.0.1 ended the connection too early; trying again in 1 s"]


def test_a_file_that_became_shorter_than_what_came_is_begun_anew(weights_server: Any, get: Any, part: Part) -> None:
    part.path.write_bytes(weights_server.content[:60_000])
    weights_server.answers.append("416")

    assert get() == weights_server.content

    assert weights_server.requests[-1][1] is None


def test_where_nobody_answers_a_person_hears_of_proxies_and_of_files(
    weights_server: Any, get: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsError, match=r"The connection to 127\.0\.0\.1 failed: .* HTTPS_PROXY\. .* --file"):
        get("http://127.0.0.1:9/made_up.pt")


def test_a_broken_encryption_is_told_with_the_setting_that_names_a_companys_ca(weights_server: Any, get: Any) -> None:
    with pytest.raises(WeightsError, match=r"The encrypted connection to 127\.0\.0\.1 failed: .* SSL_CERT_FILE"):
        get(weights_server.url.replace("http://", "https://"))


def test_an_encryption_that_breaks_in_the_middle_is_a_cut_like_others(
    weights_server: Any, get: Any, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_once(_: int) -> None:  # as httpx tells it while an answer is read
        monkeypatch.setattr(report, "at", lambda _: None)
        raise httpx.ReadError("bad record mac") from ssl.SSLError(1, "bad record mac")

    monkeypatch.setattr(report, "at", break_once)

    assert get() == weights_server.content

    assert report.texts == ["The connection to 127.0.0.1 failed: bad record mac; trying again in 1 s"]


def test_a_ca_file_that_is_not_there_is_named(get: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))

    with pytest.raises(WeightsError, match="The file that SSL_CERT_FILE names cannot be used"):
        get()


def test_the_proxy_of_the_environment_is_asked(weights_server: Any, get: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", weights_server.url.removesuffix("/made_up.pt"))

    assert get("http://weights.invalid/made_up.pt") == weights_server.content

    assert weights_server.requests[0][0] == "http://weights.invalid/made_up.pt"


def test_a_proxy_that_cannot_be_used_is_told(get: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "carrier-pigeon://roof")

    with pytest.raises(WeightsError, match="A proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names cannot be used"):
        get()
