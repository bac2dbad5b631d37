import pytest

from labelstudio_sam2.errors import UrlRefusedError
from labelstudio_sam2.images.address import HostPolicy, Reach, WebAddress, is_public
from labelstudio_sam2.settings import SettingsError, load_settings

LABEL_STUDIO = WebAddress.parse("http://label-studio:8080/")
POLICY = HostPolicy(LABEL_STUDIO, frozenset({("cdn.example", None), ("minio", 9000)}), any_public=False)


def policy_of(**settings: object) -> HostPolicy:
    return HostPolicy.from_settings(load_settings(**settings))


@pytest.mark.parametrize(
    ("text", "origin", "target"),
    [
        ("http://Example.COM/a.png", ("http", "example.com", 80), "/a.png"),
        ("HTTPS://example.com:8443", ("https", "example.com", 8443), "/"),
        ("https://example.com./a?b=c#d", ("https", "example.com", 443), "/a?b=c"),
        ("http://bücher.example/ü b.png?q=ü b", ("http", "xn--bcher-kva.example", 80), "/%C3%BC%20b.png?q=%C3%BC%20b"),
        ("http://a_b/%20%2F\\x", ("http", "a_b", 80), "/%20%2F%5Cx"),
        ("http://[2001:DB8::0:1]:81/", ("http", "2001:db8::1", 81), "/"),
    ],
)
def test_an_address_has_one_spelling(text: str, origin: tuple[str, str, int], target: str) -> None:
    address = WebAddress.parse(text)

    assert (address.origin, address.target) == (origin, target)
    assert WebAddress.parse(address.url) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.png",
        "//host/a.png",
        "ftp://host/a.png",
        "file:///etc/passwd",
        "gopher://host/",
        "http://",
        "http:///a.png",
        "http:a.png",
        "http://user@host/",
        "http://user:password@host/",
        "http://host\\@evil.example/",
        "http://ho st/",
        "http://host:port/",
        "http://host:99999/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://[v1.x]/",
        "http://a..b/",
        "http://-a/",
        "http://%31/",
        "http://host/a\r\nX: y",
        "http://host/a\tb",
        "http://host/\x00",
        "http://host/\ud800",
        "http://host/" + "a" * 9000,
        "http://" + "a" * 64 + "/",
    ],
)
def test_a_malformed_address_is_refused(text: str) -> None:
    with pytest.raises(UrlRefusedError):
        WebAddress.parse(text)


def test_the_query_is_a_secret_in_every_printed_form() -> None:
    address = WebAddress.parse("https://bucket.example/a.png?X-Amz-Signature=s3cret")

    assert str(address) == "https://bucket.example/a.png"
    assert "s3cret" not in repr(address)


def test_the_host_header_has_brackets_and_no_default_port() -> None:
    assert WebAddress.parse("http://[::1]:80/").netloc == "[::1]"
    assert WebAddress.parse("https://a:80/").netloc == "a:80"


@pytest.mark.parametrize(
    "ip",
    [
        "0.0.0.0", "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.192", "192.0.2.1", "198.18.0.1", "203.0.113.1",
        "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "168.63.129.16",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1",
        "2002:7f00:1::", "2001:0:7f00:1::",
    ],
)  # fmt: skip
def test_an_address_that_is_not_on_the_public_internet_is_known_as_such(ip: str) -> None:
    assert not is_public(ip)


@pytest.mark.parametrize(
    "ip", ["8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "193.0.0.1", "2606:4700::1111", "2a00::1"]
)
def test_a_public_address_is_known_as_such(ip: str) -> None:
    assert is_public(ip)


@pytest.mark.parametrize(
    "text",
    [
        "http://label-studio:8080/data/upload/1/x",
        "http://cdn.example/",
        "https://cdn.example:444/",
        "http://minio:9000/",
    ],
)
def test_what_the_operator_named_may_be_anywhere(text: str) -> None:
    assert POLICY.reach(WebAddress.parse(text)) is Reach.ANYWHERE


@pytest.mark.parametrize(
    "text",
    [
        "http://label-studio/",
        "https://label-studio:8080/",
        "http://label-studio:8080/",
        "http://label-studio:8080/api/projects/1/next",
        "http://x.cdn.example/",
        "http://minio/",
        "http://8.8.8.8/",
    ],
)
def test_what_the_operator_did_not_name_is_refused_and_the_message_says_what_to_set(text: str) -> None:
    with pytest.raises(UrlRefusedError, match=r"ALLOWED_IMAGE_HOSTS|LABEL_STUDIO_URL"):
        POLICY.reach(WebAddress.parse(text))


def test_the_refusal_names_the_host_but_not_the_query() -> None:
    with pytest.raises(UrlRefusedError, match=r"evil\.example:81") as caught:
        POLICY.reach(WebAddress.parse("http://evil.example:81/a?sig=s3cret"))

    assert "s3cret" not in str(caught.value)


def test_another_scheme_of_label_studio_is_explained() -> None:
    with pytest.raises(UrlRefusedError, match="set it to https://label-studio"):
        POLICY.reach(WebAddress.parse("https://label-studio/a"))


def test_a_star_allows_every_host_that_is_public() -> None:
    policy = policy_of(allowed_image_hosts="*, minio")

    assert policy.reach(WebAddress.parse("http://any.example/")) is Reach.PUBLIC
    assert policy.reach(WebAddress.parse("http://minio/")) is Reach.ANYWHERE


def test_what_label_studio_redirected_to_must_be_public_unless_it_is_listed() -> None:
    assert POLICY.reach(WebAddress.parse("https://bucket.example/"), signed=True) is Reach.PUBLIC
    assert POLICY.reach(WebAddress.parse("http://minio:9000/"), signed=True) is Reach.ANYWHERE


def test_hosts_of_the_setting_may_have_ports_and_brackets() -> None:
    policy = policy_of(allowed_image_hosts="CDN.example, minio:9000,[::1]:81")

    assert policy.allowed == {("cdn.example", None), ("minio", 9000), ("::1", 81)}


@pytest.mark.parametrize("host", ["http://a", "a/b", "*.example.com", "user@a", "a:b", "a?b", "a#b", ":80"])
def test_a_malformed_host_stops_the_start_and_names_the_variable(host: str) -> None:
    with pytest.raises(SettingsError, match="ALLOWED_IMAGE_HOSTS"):
        policy_of(allowed_image_hosts=host)


def test_a_password_in_label_studio_url_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="LABEL_STUDIO_URL") as caught:
        policy_of(label_studio_url="http://user:s3cret@label-studio/")

    assert "s3cret" not in str(caught.value)
