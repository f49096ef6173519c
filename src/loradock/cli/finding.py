"""Finds which server and which key a command means when it is not told."""

import os
import shlex
from pathlib import Path

from loradock.cli.usage import UsageProblem, program
from loradock.configuration.address import local_url, recorded_url
from loradock.configuration.settings import DEFAULT_PORT, default_data_dir
from loradock.types.errors import BadRequest

_FOLDER, _HOST, _PORT, _URL = "LORADOCK_DATA_DIR", "LORADOCK_HOST", "LORADOCK_PORT", "LORADOCK_BASE_URL"


class _Told:
    folder: str | None = None


def hint(command: str) -> str:
    """A further command for the same server."""
    where = f" --data-dir {shlex.quote(_Told.folder)}" if _Told.folder else ""
    return f"{program()} {command}{where}"


def data_dir() -> Path:
    return Path(os.environ.get(_FOLDER) or default_data_dir()).expanduser()


def use_data_dir(folder: str | None) -> None:
    """`--data-dir`: the server of this folder, whatever the variables say of another."""
    if folder is not None:
        _Told.folder = os.environ[_FOLDER] = folder
        for variable in (_URL, _HOST, _PORT):
            os.environ.pop(variable, None)


def server_url() -> str:
    """Return the URL by LORADOCK_HOST and LORADOCK_PORT, else as the running server has written into its data
    folder."""
    host, port = os.environ.get(_HOST), os.environ.get(_PORT)
    if not (host or port):
        return recorded_url(data_dir()) or local_url("127.0.0.1", DEFAULT_PORT)
    if port and not (port.isdecimal() and 0 <= int(port) < 1 << 16):
        raise UsageProblem(f"LORADOCK_PORT is {port!r}: give a number up to 65535, or --base-url")
    if port and int(port) == 0:  # any free one: only the server knows which
        return recorded_url(data_dir()) or local_url(host or "127.0.0.1", DEFAULT_PORT)
    return local_url(host or "127.0.0.1", int(port) if port else DEFAULT_PORT)


def local_key() -> str:
    """The key that the server keeps in its data folder. Raises BadRequest when there is none."""
    file = data_dir() / "bootstrap-key"
    try:
        return file.read_text().strip()
    except FileNotFoundError as error:
        raise BadRequest(
            f"no API key: there is no {file}. Start a server, which makes the first key: {program()} serve. Or say"
            " where the key of one that runs is: --data-dir, --api-key or LORADOCK_API_KEY"
        ) from error
    except OSError as error:
        raise BadRequest(
            f"no API key: {file} cannot be read ({error.strerror}). Give --api-key, LORADOCK_API_KEY or the server's"
            " --data-dir"
        ) from error
