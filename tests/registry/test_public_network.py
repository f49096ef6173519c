import pytest

from loradock.registry.sources import SourceRules, read_source
from loradock.registry.sources.public_network import is_public
from loradock.registry.transfer import Transfer
from loradock.types.errors import BadRequest

PRIVATE = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"]
)
def test_this_machine_is_out_of_reach_however_it_is_spelt(web, tmp_path, host):
    web.serve("/secret", b"x")
    port = web.url.rpartition(":")[2]
    source = read_source(f"http://{host}:{port}/secret", SourceRules())
    with pytest.raises(BadRequest, match=r"private address|cannot be"):
        source.fetch(tmp_path, tmp_path / "files", None, Transfer())
    assert web.requests == []


def test_a_host_that_does_not_exist(tmp_path):
    source = read_source("http://nothing.invalid/lora.zip", SourceRules())
    with pytest.raises(BadRequest, match="cannot be resolved"):
        source.fetch(tmp_path, tmp_path / "files", None, Transfer())


@pytest.mark.parametrize("url", ["http://", "http:///x", "https://user:pass@/x", "http://[::1", "http://h:99999999/x"])
def test_urls_that_are_none(tmp_path, url):
    with pytest.raises(BadRequest):
        read_source(url, SourceRules(allow_private_sources=True)).fetch(tmp_path, tmp_path / "f", None, Transfer())


def test_user_and_signature_are_not_shown():
    source = read_source("https://user:hunter2@example.org/a.zip?X-Amz-Signature=secret#x", SourceRules())
    assert source.label == "https://example.org/a.zip"
    assert "hunter2" not in repr(source)
    assert "secret" not in repr(source)
