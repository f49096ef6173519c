import pytest

from loradock.dashboard.base_path import SCOPE_KEY, prefixed
from loradock.server.outside import FromOutside, Proxies, read_public_url
from loradock.types.errors import BadRequest


async def seen(path="/ui/keys", client="127.0.0.1", public_url=None, trusted=("127.0.0.1",), **headers) -> tuple:
    """(scheme, host, prefix, path, raw path) as the application has them."""
    found = {}

    async def app(scope, receive, send):
        found.update(scope)

    sent = [(b"host", b"inner:8321")]
    sent += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "scheme": "http", "path": path, "raw_path": path.encode(), "headers": sent}
    await FromOutside(app, public_url, trusted)({**scope, "client": (client, 5)}, None, None)
    host = dict(found["headers"])[b"host"].decode()
    return found["scheme"], host, found.get(SCOPE_KEY, ""), found["path"], found["raw_path"].decode()


UNCHANGED = ("http", "inner:8321", "", "/ui/keys", "/ui/keys")


async def test_the_forwarded_headers_of_a_trusted_proxy_count():
    told = {"x_forwarded_proto": "https", "x_forwarded_host": "a.example", "x_forwarded_prefix": "/dock/"}
    for path in ("/ui/keys", "/dock/ui/keys"):
        assert await seen(path, **told) == ("https", "a.example", "/dock", "/ui/keys", "/ui/keys")
    assert await seen("/dock", **told) == ("https", "a.example", "/dock", "/", "/")
    assert await seen("/docks/x", **told) == ("https", "a.example", "/dock", "/docks/x", "/docks/x")


@pytest.mark.parametrize(
    ("headers", "scheme", "host"),
    [
        ({"x_forwarded_host": "a.example:8443, inner", "x_forwarded_proto": "https, http"}, "https", "a.example:8443"),
        ({"x_forwarded_host": "a.example", "x_forwarded_port": "8080"}, "http", "a.example:8080"),
        (
            {"x_forwarded_host": "a.example", "x_forwarded_port": "443", "x_forwarded_proto": "https"},
            "https",
            "a.example",
        ),
        ({"x_forwarded_host": "[::1]:99"}, "http", "[::1]:99"),
        ({"forwarded": 'for=192.0.2.4;host="a.example:99";proto=https, for=192.0.2.5'}, "https", "a.example:99"),
        ({}, "http", "inner:8321"),
    ],
)
async def test_every_way_to_tell_scheme_and_host(headers, scheme, host):
    assert (await seen(**headers))[:2] == (scheme, host)


@pytest.mark.parametrize(
    "headers",
    [
        {"x_forwarded_host": "evil.example/<script>"},
        {"x_forwarded_host": 'a"onload="x'},
        {"x_forwarded_proto": "javascript"},
        {"x_forwarded_prefix": "//evil.example"},
        {"x_forwarded_prefix": "/a/../b"},
        {"x_forwarded_prefix": '/a" onload="x'},
        {"x_forwarded_prefix": "/ui"},
        {"x_forwarded_prefix": "https://evil.example"},
    ],
)
async def test_what_is_no_address_is_passed_over(headers):
    assert await seen(**headers) == UNCHANGED


async def test_others_are_not_believed():
    told = {"x_forwarded_proto": "https", "x_forwarded_host": "a.example", "x_forwarded_prefix": "/dock"}
    assert await seen(client="192.0.2.1", **told) == UNCHANGED
    assert (await seen(client="192.0.2.1", trusted=("192.0.2.0/24, ::1",), **told))[1] == "a.example"


async def test_the_public_url_needs_no_headers_and_outweighs_them():
    public = {"public_url": "https://a.example/dock", "x_forwarded_host": "b.example", "client": "192.0.2.1"}
    for path in ("/ui/keys", "/dock/ui/keys"):
        assert await seen(path, **public) == ("https", "a.example", "/dock", "/ui/keys", "/ui/keys")


def test_a_client_of_a_socket_for_both_families_is_the_same_one():
    assert "::ffff:127.0.0.1" in Proxies(["127.0.0.1"])
    assert "::ffff:127.0.0.2" not in Proxies(["127.0.0.1"])
    assert "anybody" in Proxies(["*"])
    assert "not an address" not in Proxies(["127.0.0.1"])
    with pytest.raises(BadRequest, match="--trusted-proxies"):
        Proxies(["localhost"])


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://a.example/dock/", "https://a.example/dock"),
        ("http://A.example:80", "http://a.example"),
        ("http://[::1]:8080/a/b", "http://[::1]:8080/a/b"),
    ],
)
def test_public_urls_are_read(given, read):
    assert read_public_url(given) == read


@pytest.mark.parametrize(
    "given",
    [
        "a.example",
        "ftp://a.example",
        "https://",
        "https://a.example/?x=1",
        "https://a.example/ui",
        "https://u@a",
        "http://[a",
    ],
)
def test_what_is_no_public_url_is_refused(given):
    with pytest.raises(BadRequest, match="--public-url"):
        read_public_url(given)


def test_addresses_of_a_page_are_moved_and_texts_are_not():
    page = '<a href="/">x</a><a href="/ui/keys?a=/ui/b">/ui/keys</a><form action="/ui/x" data-live="/ui/live">'
    assert prefixed(page, "/dock") == (
        '<a href="/dock/">x</a><a href="/dock/ui/keys?a=/ui/b">/ui/keys</a>'
        '<form action="/dock/ui/x" data-live="/dock/ui/live">'
    )
    for kept in ('<input value="/ui/keys">', '<a href="//elsewhere/ui/">', '<a href="https://a/ui/">', '<a href="#x">'):
        assert prefixed(kept, "/dock") == kept
    assert prefixed(page, "") == page
