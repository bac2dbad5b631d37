import base64

import pytest

from labelstudio_sam2.errors import UrlRefusedError
from labelstudio_sam2.images.address import HostPolicy, WebAddress
from labelstudio_sam2.images.place import find_place


def policy(label_studio: str | None = "http://label-studio:8080", *hosts: str) -> HostPolicy:
    address = None if label_studio is None else WebAddress.parse(label_studio)
    return HostPolicy(address, frozenset((host, None) for host in hosts), any_public=False)


def name_of(address: str) -> str:
    return find_place(address, policy(), 7).name


@pytest.mark.parametrize(
    "path",
    [
        "/data/upload/1/0a1b2c3d-cat.png",
        "/data/local-files/?d=sub/cat.png",
        "/storage-data/uploaded/?filepath=upload/1/cat.png",
        "/tasks/7/presign/?fileuri=czM6Ly9i",
    ],
)
@pytest.mark.parametrize("host", ["", "http://localhost:8080", "https://label.example.com"])
def test_what_label_studio_keeps_is_asked_of_label_studio_whatever_host_it_wrote(host: str, path: str) -> None:
    assert find_place(host + path, policy(), 7).address.url == "http://label-studio:8080" + path


def test_spaces_around_an_address_do_not_count() -> None:
    assert find_place("  /data/upload/1/my cat.png ", policy(), 7).address.path == "/data/upload/1/my%20cat.png"


def test_a_listed_host_is_asked_itself() -> None:
    place = find_place("http://cdn.example/data/upload/1/cat.png", policy("http://ls", "cdn.example"), 7)

    assert place.address.host == "cdn.example"


@pytest.mark.parametrize("path", ["/data/upload/1/cat.png", "/ls/data/upload/1/cat.png"])
def test_a_label_studio_under_a_path_is_asked_there(path: str) -> None:
    place = find_place(path, policy("https://example.com/ls/"), 7)

    assert place.address.url == "https://example.com/ls/data/upload/1/cat.png"


@pytest.mark.parametrize("uri", ["s3://bucket/cat ü.png", "gs://bucket/cat.png", "azure-blob://container/cat.png"])
def test_label_studio_signs_what_is_in_a_cloud_storage(uri: str) -> None:
    place = find_place(uri, policy(), 7)

    assert place.address.path == "/tasks/7/presign/"
    assert base64.urlsafe_b64decode(place.address.query.removeprefix("fileuri=")).decode() == uri
    assert place.signs


def test_only_signing_places_may_redirect_to_a_foreign_host() -> None:
    assert not find_place("/data/upload/1/cat.png", policy(), 7).signs
    assert not find_place("http://evil.example/x/tasks/7/presign/", policy(), 7).signs


@pytest.mark.parametrize(
    "address",
    [
        "",
        "cat.png",
        "./cat.png",
        "../cat.png",
        "/etc/passwd",
        "/home/me/cat.png",
        "/data/cat.png",
        "/api/projects/",
        "/x/data/upload/1/cat.png",
        "/?/data/upload/1/cat.png",
        "//evil.example/data/upload/1/cat.png",
        "/data/upload/../../api/token",
        "/data/upload/1/..",
        "/data/upload/%2e%2e/api",
        "/data/upload/%252e%252e/api",
        "/data/upload/..\\api",
        "/data/upload/1/a\nb",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "C:\\cat.png",
        "ftp://host/cat.png",
        "javascript:alert(1)",
        "s3://bucket/\ud800",
        "s3://bucket/\n",
    ],
)
def test_no_other_address_is_opened(address: str) -> None:
    with pytest.raises(UrlRefusedError):
        find_place(address, policy(), 7)


@pytest.mark.parametrize("address", ["/data/upload/1/cat.png", "s3://bucket/cat.png"])
def test_a_missing_label_studio_url_is_said(address: str) -> None:
    with pytest.raises(UrlRefusedError, match="set LABEL_STUDIO_URL"):
        find_place(address, policy(None), 7)


def test_a_cloud_address_needs_a_task() -> None:
    with pytest.raises(UrlRefusedError, match="no id"):
        find_place("s3://bucket/cat.png", policy(), None)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("https://b/a.png?X-Amz-Signature=1&X-Amz-Date=2", "https://b/a.png?X-Amz-Signature=3&X-Amz-Date=4"),
        ("https://b/a.png?X-Goog-Signature=1", "https://b/a.png?x-goog-signature=2&X-Goog-Expires=60"),
        ("https://b/a.png?sig=1&se=2026&sp=r&sv=1", "https://b/a.png?sv=2&sp=r&se=2027&sig=2"),
        ("https://b/a.png?Signature=1&Expires=2&GoogleAccessId=3", "https://b/a.png?Expires=4&Signature=5"),
        ("https://b/a.png?id=5&Signature=1&Key-Pair-Id=2", "https://b/a.png?id=5&Policy=6&Signature=7"),
    ],
)
def test_a_new_signature_does_not_make_a_new_name(one: str, two: str) -> None:
    assert name_of(one) == name_of(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("https://b/a.png", "https://b/b.png"),
        ("https://b/a.png", "https://c/a.png"),
        ("https://b/a.png", "http://b/a.png"),
        ("https://b/a?id=1", "https://b/a?id=2"),
        ("https://b/a?id=1&Signature=2", "https://b/a?id=2&Signature=2"),
        ("https://b/a?se=1", "https://b/a?se=2"),  # without sig it is no signature
        ("https://b/a?expires=1", "https://b/a?expires=2"),
        ("s3://b/a.png", "s3://b/b.png"),
    ],
)
def test_whatever_may_name_another_picture_makes_another_name(one: str, two: str) -> None:
    assert name_of(one) != name_of(two)


def test_a_signature_is_not_printed() -> None:
    assert "s3cret" not in repr(find_place("https://b/a.png?token=s3cret", policy(), 7))
