"""Multipart uploads, read as they arrive."""

import tempfile

import pytest

from loradock.api.multipart import read_upload
from loradock.registry.blobs import Blobs
from loradock.registry.transfer import Limits
from loradock.registry.uploads.received import Received
from loradock.types.errors import BadRequest, TooLarge

TYPE = "multipart/form-data; boundary=edge"
CONFIG = b'Content-Disposition: form-data; name="files"; filename="adapter_config.json"'
WEIGHTS = b'Content-Disposition: form-data; name="files"; filename="adapter_model.safetensors"'
JUNK = b'Content-Disposition: form-data; name="files"; filename="optimizer.pt"'


def field(name: str) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"'.encode()


def form(*parts: tuple[bytes, bytes]) -> bytes:
    return b"".join(b"--edge\r\n%s\r\n\r\n%s\r\n" % part for part in parts) + b"--edge--\r\n"


@pytest.fixture
def received(tmp_path):
    return Received(Blobs(tmp_path), Limits(adapter_bytes=1000, model_bytes=5000))


def on_disk(folder) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


async def read(received, body, size=7):
    async def chunks():
        for start in range(0, len(body), size):
            yield body[start : start + size]

    return await read_upload(TYPE, chunks(), received)


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
async def test_fields_and_files_arrive_whatever_the_pieces(received, tmp_path, size):
    body = form(
        (field("model_name"), "naïve".encode()), (CONFIG, b"{}"), (WEIGHTS, b"\r\n--edg" * 9), (JUNK, b"x" * 99)
    )
    assert await read(received, body, size) == {"model_name": "naïve"}
    assert on_disk(tmp_path) == 2 + 7 * 9  # what no model needs is not kept
    received.discard()
    assert on_disk(tmp_path) == 0


async def test_the_limit_bites_while_the_body_arrives(received, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    taken = 0

    async def endless():
        nonlocal taken
        yield b"--edge\r\n%s\r\n\r\n" % WEIGHTS
        while True:
            taken += 100
            yield b"x" * 100

    with pytest.raises(TooLarge, match=r"5\.0 kB"):
        await read_upload(TYPE, endless(), received)
    assert taken <= 5200
    assert on_disk(tmp_path) <= 5000


async def test_an_adapters_limit_holds_once_it_is_said_to_be_one(received):
    body = form((field("model_type"), b"adapter"), (WEIGHTS, b"x" * 1001))
    with pytest.raises(TooLarge, match=r"1\.0 kB"):
        await read(received, body)


BROKEN = {
    "cut off in a file": form((WEIGHTS, b"x" * 50))[:-20],
    "no end": form((WEIGHTS, b"x"))[:-4],
    "no form": b"{}",
    "nothing": b"",
    "an unknown kind": form((field("model_type"), b"lora")),
    "a file twice": form((CONFIG, b"{}"), (CONFIG, b"{}")),
    "a file outside": form((CONFIG.replace(b"adapter_config", b"../x"), b"{}")),
    "a huge field": form((field("description"), b"x" * (1 << 17))),
    "a huge header": form((field("x" * (1 << 14)), b"")),
    "many fields": form(*((field(f"f{n}"), b"") for n in range(200))),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
async def test_a_broken_form_is_refused(received, body):
    with pytest.raises((BadRequest, TooLarge)):
        await read(received, body, 1000)
