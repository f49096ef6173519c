"""The server's settings: where it keeps its things and how it is reached."""

from dataclasses import dataclass
from pathlib import Path

from loradock.configuration.address import local_url
from loradock.types.enums import LogLevel, Quantization

DEFAULT_PORT = 8321


def default_data_dir() -> Path:
    return Path.home() / ".local" / "share" / "loradock"


@dataclass(frozen=True)
class Front:
    """The settings of how clients are met.

    `public_url`: where they find the server, when that is another address than the one it listens on; else what the
    `trusted_proxies` (addresses, networks, or `*`) say of it counts. `allow_origins`: whose pages in browsers may call
    the API (`*`: everybody's). Seconds: `receive_timeout` for a request's head, and for a pause within its body;
    `drain_timeout` that running answers have to end when the server stops; `keep_alive` after which a quiet stream is
    sent a comment (0: never). `finish_revoked`: answers that a key began end as usual when it is revoked.
    """

    public_url: str | None = None
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    allow_origins: tuple[str, ...] = ()
    receive_timeout: float = 20.0
    drain_timeout: float = 10.0
    keep_alive: float = 3.0
    finish_revoked: bool = False


@dataclass(frozen=True)
class Settings:
    """`import_root` is the only folder that `file://` uploads may read; None switches them off.

    `scale_target`: requests in flight that a replica should have; their number follows load that has lasted for
    `scale_up_after` or `scale_down_after` seconds. `quantization`: of the built-in engine's weights, which is started
    with `engine_args`, too. `vllm_python`: the interpreter of an environment with vLLM, which is started with
    `vllm_args` besides what it needs. `begin_anew`: start although the database that knew the data folder's files is
    lost; what no database knows is kept aside for `trash_days`. `front`: how clients are met. `log_requests`: a line in
    the log for every request.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    import_root: Path | None = None
    bootstrap_account: str = "local"
    bootstrap_key: str | None = None
    allow_private_sources: bool = False
    keep_replicas: bool = False
    engine_threads: int = 0
    quantization: Quantization | None = None
    engine_args: tuple[str, ...] = ()
    scale_target: float = 8.0
    scale_up_after: float = 10.0
    scale_down_after: float = 300.0
    vllm_python: Path | None = None
    vllm_args: tuple[str, ...] = ()
    begin_anew: bool = False
    trash_days: int = 14
    front: Front = Front()
    log_level: LogLevel = LogLevel.INFO
    log_requests: bool = False

    @property
    def url(self) -> str:
        """The URL where clients find the server, as far as it knows."""
        if self.front.public_url is not None:
            return self.front.public_url
        return local_url(self.host, self.port)

    @property
    def database_file(self) -> Path:
        return self.data_dir / "loradock.db"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.database_file}"

    @property
    def trash(self) -> Path:
        return self.data_dir / "trash"

    @property
    def key_file(self) -> Path:
        return self.data_dir / "bootstrap-key"
