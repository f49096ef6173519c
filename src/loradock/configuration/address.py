"""The server's address: written into its data folder while it runs, for the command line to find."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RECORD = "server.json"
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def local_url(host: str, port: int) -> str:
    """The address for clients on the machine of a server that listens on `host`."""
    bare = host.strip("[]")
    reached = _ANY.get(bare, bare)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")


@contextmanager
def recorded(folder: Path, url: str) -> Iterator[None]:
    """Record in the folder, while the block runs, that its server is at `url`. A killed server leaves the record
    behind."""
    draft, record = folder / f"{_RECORD}.tmp", folder / _RECORD
    draft.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    draft.replace(record)
    try:
        yield
    finally:
        record.unlink(missing_ok=True)


def recorded_url(folder: Path) -> str | None:
    """Return the URL of the server that runs on this data folder, or was killed on it."""
    try:
        url = json.loads((folder / _RECORD).read_text())["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if isinstance(url, str) else None
