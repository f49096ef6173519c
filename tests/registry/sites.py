"""Real web servers for downloads: plain files with redirects, and a hub that speaks the Hugging Face protocol."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Site:
    """`answers` maps a path to what it answers; `requests` keeps (method, path, headers)."""

    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    respond: Callable[[str, dict[str, str]], Answer | None] = lambda _path, _headers: None
    url: str = ""

    def serve(self, path: str, body: bytes) -> str:
        self.answers[path] = (200, {}, body)
        return self.url + path


@contextmanager
def running(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = self.path.partition("?")[0]
            headers_in = {name.lower(): value for name, value in self.headers.items()}
            site.requests.append((self.command, self.path, headers_in))
            missing = (404, {"X-Error-Code": "RepoNotFound"}, b"{}")
            status, headers, body = site.answers.get(path) or site.respond(path, headers_in) or missing
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)
            if "Connection" in headers:
                self.close_connection = True

        do_HEAD = do_GET

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Hub:
    """Folders under `root` are repositories, `Org/Model`; those in `private` want `token`."""

    root: Path
    token: str = "hf_sesame"
    private: set[str] = field(default_factory=set)
    revisions: set[str] = field(default_factory=set)
    """Besides main, with the same files."""
    site: Site = field(default_factory=Site)

    def __post_init__(self) -> None:
        self.site.respond = self._respond

    def _respond(self, path: str, headers: dict[str, str]) -> Answer | None:
        api = path.startswith("/api/models/")
        parts = path.removeprefix("/api/models/").strip("/").split("/")
        repo = "/".join(parts[:2])
        folder = self.root / repo
        if not folder.is_dir() or (repo in self.private and headers.get("authorization") != f"Bearer {self.token}"):
            return None
        if api:
            revision = "/".join(parts[3:]) if parts[2:3] == ["revision"] else "main"
            if unquote(revision) not in ("main", COMMIT, *self.revisions):
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            files = [
                {"rfilename": file.relative_to(folder).as_posix(), "size": file.stat().st_size}
                for file in sorted(folder.rglob("*"))
                if file.is_file()
            ]
            return 200, {"X-Repo-Commit": COMMIT}, json.dumps({"id": repo, "sha": COMMIT, "siblings": files}).encode()
        body = folder.joinpath(*map(unquote, parts[4:])).read_bytes()
        return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}, body
