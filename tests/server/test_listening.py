import socket
from contextlib import closing

import pytest

from loradock.configuration.settings import Front, Settings
from loradock.server.listening import listen
from loradock.types.errors import BadRequest


def reach(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("0.0.0.0", {"127.0.0.1"}),
        ("::1", {"::1"}),
        ("[::1]", {"::1"}),
        ("::", {"127.0.0.1", "::1"}),
    ],
)
def test_every_kind_of_address_is_listened_on(host, reached):
    listeners = listen(host, 0)
    port = listeners[0].getsockname()[1]
    try:
        assert {address for address in ("127.0.0.1", "::1") if reach(address, port)} == reached
    finally:
        for listener in listeners:
            listener.close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.7", "2001:db8::7", "bücher..example", "256.0.0.1"])
def test_a_host_that_cannot_be_listened_on_is_blamed(host):
    with pytest.raises(BadRequest, match=r"--host") as refused:
        listen(host, 0)
    assert "--port" not in refused.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_a_port_that_is_taken_is_blamed(host):
    with closing(listen(host, 0)[0]) as taken, pytest.raises(BadRequest, match=r"another --port"):
        listen(host, taken.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8"), ("::", "http://[::1]:8"), ("0.0.0.0", "http://127.0.0.1:8")],
)
def test_the_address_that_is_told_can_be_called(tmp_path, host, url):
    assert Settings(tmp_path, host=host, port=8).url == url
    assert Settings(tmp_path, host=host, front=Front(public_url="https://a.example/x")).url == "https://a.example/x"
