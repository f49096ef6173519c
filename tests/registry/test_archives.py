"""Hostile archives: refused, and nothing of them on disk but what lies in the given folder."""

import gzip
import io
import random
import stat
import struct
import tarfile
import zipfile

import pytest

from loradock.registry.archives import unpack
from loradock.registry.transfer import Limits, Transfer
from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest

GOOD = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}


def tar(entries, pack=gzip.compress) -> bytes:
    """Entries are TarInfo objects or (name, bytes)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
    return pack(buffer.getvalue())


def zipped(entries, compression=zipfile.ZIP_DEFLATED) -> bytes:
    """Entries are (name or ZipInfo, bytes)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def special(name, kind, linkname="") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


def zip_special(name, mode) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


@pytest.fixture
def attempt(tmp_path):
    def run(data: bytes, kind=ModelKind.ADAPTER, limit=1 << 20):
        workspace = tmp_path / "workspace"
        into = workspace / "files"
        into.mkdir(parents=True)
        (workspace / "archive").write_bytes(data)
        found = unpack(workspace / "archive", into, kind, Transfer(limits=Limits(limit, limit)))
        return found, {file.name: file.read_bytes() for file in into.iterdir()}

    yield run
    assert {path.name for path in tmp_path.iterdir()} <= {"workspace"}
    inside = {path.relative_to(tmp_path / "workspace").parts[0] for path in (tmp_path / "workspace").iterdir()}
    assert inside <= {"archive", "archive.tar", "files"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("pack", [tar, lambda entries: tar(entries, bytes), zipped])
@pytest.mark.parametrize("prefix", ["", "./", "my-lora/", "./my-lora/"])
def test_good_archives(attempt, pack, prefix):
    junk = [("__MACOSX/._adapter_config.json", b"x"), (f"{prefix}README.md", b"x"), (f"{prefix}optimizer.pt", b"x")]
    assert attempt(pack([(prefix + name, data) for name, data in GOOD.items()] + junk), None) == (
        ModelKind.ADAPTER,
        GOOD,
    )


def in_members(plain: bytes) -> bytes:
    """As pigz and bgzip pack: several gzip members, one after the other."""
    return b"".join(gzip.compress(plain[start : start + 700]) for start in range(0, len(plain), 700))


@pytest.mark.parametrize("padding", [b"", b"\0" * 600])
def test_gzip_of_several_members_is_read_to_its_end(attempt, padding):
    assert attempt(tar(GOOD.items(), in_members) + padding, None) == (ModelKind.ADAPTER, GOOD)


@pytest.mark.parametrize("change", [lambda a: a[:-30], lambda a: a + b"more", lambda a: a + gzip.compress(b"x")[:9]])
def test_gzip_that_ends_in_something_else_is_refused(attempt, change):
    with pytest.raises(BadRequest, match=r"cut off|damaged"):
        attempt(change(tar(GOOD.items(), in_members)))


NAMES = ["/etc/cron.d/x", "../x", "a/../../x", "..", "a\\..\\x", "C:/x", "C:x"]


@pytest.mark.parametrize("pack", [tar, zipped])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_outside(attempt, pack, name):
    with pytest.raises(BadRequest, match="points outside of it"):
        attempt(pack([*GOOD.items(), (name, b"x")]))


@pytest.mark.parametrize(
    "entry",
    [
        special("adapter_model.safetensors", tarfile.SYMTYPE, "/etc/shadow"),
        special("adapter_model.safetensors", tarfile.LNKTYPE, "adapter_config.json"),
        special("x", tarfile.CHRTYPE),
        special("x", tarfile.BLKTYPE),
        special("x", tarfile.FIFOTYPE),
        special("x", tarfile.GNUTYPE_SPARSE),
    ],
    ids=lambda entry: entry.type.decode(),
)
def test_tar_links_and_devices(attempt, entry):
    with pytest.raises(BadRequest, match=r"link or device|damaged"):
        attempt(tar([("adapter_config.json", b"{}"), entry]))


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_zip_links_and_devices(attempt, mode):
    with pytest.raises(BadRequest, match="link or device"):
        attempt(zipped([*GOOD.items(), (zip_special("x", mode), b"/etc/shadow")]))


def test_bombs_stop_at_the_limit(attempt):
    bomb = b"\0" * (8 << 20)
    with pytest.raises(BadRequest, match="the limit of this server"):
        attempt(tar([("adapter_config.json", b"{}"), ("adapter_model.safetensors", bomb)]))


def test_bombs_in_files_nobody_wants_count_too(attempt):
    with pytest.raises(BadRequest, match="the limit of this server"):
        attempt(tar([*GOOD.items(), ("video.mp4", b"\0" * (8 << 20))]))


def test_zip_bombs_stop_at_the_limit(attempt):
    with pytest.raises(BadRequest, match="the limit of this server"):
        attempt(zipped([("adapter_config.json", b"{}"), ("adapter_model.safetensors", b"\0" * (8 << 20))]))


def test_zip_bombs_that_lie_about_their_size(attempt):
    data = bytearray(zipped([("adapter_config.json", b"{}"), ("adapter_model.safetensors", b"\0" * (8 << 20))]))
    for magic, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = data.rindex(magic)
        data[at + offset : at + offset + 4] = struct.pack("<I", 100)
    with pytest.raises(BadRequest, match=r"damaged|limit"):
        attempt(bytes(data))


def test_endless_headers_are_not_read_into_memory(attempt):
    pax = tarfile.TarInfo("PaxHeader/x")
    pax.type, pax.size = tarfile.XHDTYPE, 64 << 20
    with pytest.raises(BadRequest, match=r"the archive's directory is larger"):
        attempt(gzip.compress(pax.tobuf() + b"\0" * (64 << 20)), limit=1 << 30)


def test_too_many_entries(attempt):
    with pytest.raises(BadRequest, match="more than 10000 entries"):
        attempt(zipped([(f"f{n}", b"") for n in range(10_001)]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", [tar, zipped])
def test_a_name_twice(attempt, pack):
    with pytest.raises(BadRequest, match="twice"):
        attempt(pack([*GOOD.items(), ("adapter_config.json", b"[]")]))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a/adapter_config.json", "b/adapter_model.safetensors"], "adapter_model.safetensors is missing"),
        (["a/b/adapter_model.safetensors"], "no folder here holds an adapter"),
        (["adapter_config.json"], "adapter_model.safetensors is missing"),
        (["adapter_config.json", "adapter_model.bin"], "adapter_model.bin is a pickle"),
        (["config.json", "model.safetensors"], "model_type model"),
        ([], "missing|neither"),
    ],
)
def test_files_in_the_wrong_place(attempt, names, said):
    with pytest.raises(BadRequest, match=said):
        attempt(zipped([(name, b"{}") for name in names]))


def test_zips_with_odd_compression_or_a_password(attempt):
    with pytest.raises(BadRequest, match="deflate"):
        attempt(zipped(GOOD.items(), zipfile.ZIP_LZMA))


def test_encrypted_zips(attempt):
    data = bytearray(zipped(GOOD.items()))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(BadRequest, match="password"):
        attempt(bytes(data))


@pytest.mark.parametrize("pack", [tar, lambda entries: tar(entries, bytes), zipped])
def test_cut_off_and_scribbled_archives(pack, tmp_path):
    """Whatever happens to the bytes, the outcome is a BadRequest or exactly the files."""
    whole = pack(GOOD.items())
    chance = random.Random(7)
    for trial in range(150):
        data = bytearray(whole[: chance.randrange(len(whole))] if trial % 2 else whole)
        for _ in range(trial % 5 if data else 0):
            data[chance.randrange(len(data))] = chance.randrange(256)
        files = tmp_path / str(trial) / "files"
        files.mkdir(parents=True)
        archive = files.with_name("archive")
        archive.write_bytes(bytes(data))
        try:
            unpack(archive, files, ModelKind.ADAPTER, Transfer(limits=Limits(1 << 20, 1 << 20)))
        except BadRequest:
            continue
        assert {file.name for file in files.iterdir()} == set(GOOD)
