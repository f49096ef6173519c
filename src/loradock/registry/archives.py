"""Unpacking .zip and .tar.gz that nobody vouches for.

Only the files a model needs are written, under names we choose; everything else an archive can hold
(links, devices, absolute names, `..`, bombs, endless directories) is refused before anything is unpacked.
"""

import errno
import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

from loradock.registry.contents import check_entry_name, pick
from loradock.registry.transfer import Transfer
from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest

_MAX_ENTRIES = 10_000
_MAX_READ = 8 << 20
_CHUNK = 1 << 20


class _CappedReader(io.BufferedReader):
    """Library readers trust sizes found in the file and read that much into memory at once; this one does not."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = _MAX_READ
        if size > _MAX_READ:
            raise BadRequest("the archive's directory is larger than any model needs")
        return super().read(size)


def unpack(
    archive: Path, into: Path, kind: ModelKind | None, transfer: Transfer, subfolder: str | None = None
) -> ModelKind:
    """Write the model's files flat into `into`; returns the kind found. Raises BadRequest naming what is wrong."""
    with archive.open("rb") as file:
        magic = file.read(512)
    try:
        if magic.startswith(b"PK\x03\x04"):
            return _unpack_zip(archive, into, kind, transfer, subfolder)
        if magic.startswith(b"\x1f\x8b"):
            return _unpack_tar(_gunzip(archive, kind, transfer), into, kind, transfer, subfolder)
        if magic[257:262] == b"ustar":
            return _unpack_tar(archive, into, kind, transfer, subfolder)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError) as error:
        raise BadRequest(f"the archive is damaged: {error}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise BadRequest("the archive is damaged: it names a place before its start") from error
    raise BadRequest("this is neither a .zip nor a .tar.gz archive")


def _gunzip(archive: Path, kind: ModelKind | None, transfer: Transfer) -> Path:
    """The tar inside (of every gzip member, in turn), on disk: every byte of a bomb counts against the limit."""
    target = archive.with_name(f"{archive.name}.tar")
    transfer.begin("unpacking", None, kind)
    try:
        with gzip.open(archive) as packed, target.open("wb") as plain:
            transfer.copy(packed, plain)
    except EOFError as error:
        raise BadRequest("the archive is cut off: upload it again") from error
    except gzip.BadGzipFile as error:
        raise BadRequest(f"the archive is damaged: {error}") from error
    return target


def _unpack_tar(
    archive: Path, into: Path, kind: ModelKind | None, transfer: Transfer, subfolder: str | None
) -> ModelKind:
    with _CappedReader(archive.open("rb", buffering=0)) as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
        members: dict[str, tarfile.TarInfo] = {}
        for member in tar:
            _check_entry(member.name, len(members), repeated=member.name in members and not member.isdir())
            if not (member.isfile() or member.isdir()) or member.issparse():
                raise BadRequest(f"the archive holds a link or device, {member.name!r}: pack plain files only")
            members[member.name] = member
        found, wanted = pick((name for name, member in members.items() if member.isfile()), kind, subfolder)
        transfer.begin("unpacking", sum(members[name].size for name in wanted), found)
        for name, file in wanted.items():
            source = tar.extractfile(members[name])
            if source is None:
                raise BadRequest(f"the archive is damaged: {name!r} cannot be read")
            with source, (into / file).open("xb") as target:
                transfer.copy(source, target)
            if (into / file).stat().st_size != members[name].size:
                raise BadRequest(f"the archive is cut off inside {name!r}: upload it again")
    return found


def _unpack_zip(
    archive: Path, into: Path, kind: ModelKind | None, transfer: Transfer, subfolder: str | None
) -> ModelKind:
    with _CappedReader(archive.open("rb", buffering=0)) as raw, zipfile.ZipFile(raw) as packed:
        members: dict[str, zipfile.ZipInfo] = {}
        for member in packed.infolist():
            _check_entry(member.filename, len(members), repeated=member.filename in members)
            _check_zip_member(member)
            members[member.filename] = member
        found, wanted = pick((name for name, member in members.items() if not member.is_dir()), kind, subfolder)
        transfer.begin("unpacking", sum(members[name].file_size for name in wanted), found)
        for name, file in wanted.items():
            with packed.open(members[name]) as source, (into / file).open("xb") as target:
                transfer.copy(source, target)
    return found


def _check_entry(name: str, count: int, *, repeated: bool) -> None:
    check_entry_name(name)
    if repeated:
        raise BadRequest(f"the archive holds {name!r} twice")
    if count >= _MAX_ENTRIES:
        raise BadRequest(f"the archive holds more than {_MAX_ENTRIES} entries: pack only the model's files")


def _check_zip_member(member: zipfile.ZipInfo) -> None:
    mode = stat.S_IFMT(member.external_attr >> 16)
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadRequest(f"the archive holds a link or device, {member.filename!r}: pack plain files only")
    if member.flag_bits & 0x1:
        raise BadRequest("the archive is encrypted: pack it without a password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadRequest("the archive uses a compression other than deflate: pack it as an ordinary .zip")
