"""A real nginx in front of a server."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

NGINX = "/usr/sbin/nginx"
_CONFIG = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {servers}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, servers: dict[int, str]) -> Iterator[None]:
    """`servers`: port → what stands in its server block."""
    folder.mkdir(parents=True, exist_ok=True)
    blocks = "\n".join(f"server {{ listen 127.0.0.1:{port}; {rules} }}" for port, rules in servers.items())
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, servers=blocks))
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(config)], stdout=log, stderr=log)
    try:
        _wait(process, next(iter(servers)), folder / "nginx.log")
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait(process: subprocess.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/nothing-there", timeout=2)
            return
        time.sleep(0.05)
    raise RuntimeError(f"nginx did not start: {log.read_text()}")
