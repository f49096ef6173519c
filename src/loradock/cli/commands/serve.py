"""`loradock serve`."""

from pathlib import Path
from typing import Annotated

import typer

from loradock.cli.banner import banner, warn_of_plain_http
from loradock.cli.commands import serve_checks
from loradock.configuration.settings import DEFAULT_PORT, default_data_dir
from loradock.types.enums import LogLevel, Quantization

_Port = Annotated[int, typer.Option(envvar="LORADOCK_PORT", min=0, max=65535, help="0: any that is free.")]
_Quantization = Annotated[
    Quantization | None,
    typer.Option(
        envvar="LORADOCK_QUANTIZATION", help="Keep weights in 8 or 4 bits: faster, less memory. Not with vLLM."
    ),
]
_VllmPython = Annotated[
    Path | None,
    typer.Option(envvar="LORADOCK_VLLM_PYTHON", help="The python of an environment with vLLM, to offer it too."),
]

_EngineArgs = Annotated[
    str,
    typer.Option(envvar="LORADOCK_ENGINE_ARGS", help="Further flags for the built-in engine, as one would type them."),
]
_VllmArgs = Annotated[
    str, typer.Option(envvar="LORADOCK_VLLM_ARGS", help="Further flags for vLLM, as one would type them.")
]
_PublicUrl = Annotated[
    str | None,
    typer.Option(
        envvar="LORADOCK_PUBLIC_URL",
        help="The address that browsers use, as https://example.com/loradock, where a proxy stands before the server.",
    ),
]
_TrustedProxies = Annotated[
    str,
    typer.Option(
        envvar=["LORADOCK_TRUSTED_PROXIES", "FORWARDED_ALLOW_IPS"],
        help="Addresses and networks, with commas between, whose X-Forwarded-… headers count; * for all.",
    ),
]
_AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(
        envvar="LORADOCK_ALLOW_ORIGINS",
        help="Pages that may call the API from a browser, as https://app.example.com; * for all. May be repeated.",
    ),
]
_KeepAlive = Annotated[
    float,
    typer.Option(envvar="LORADOCK_KEEP_ALIVE", min=0, help="Quiet seconds after which a stream is sent a comment."),
]
_ReceiveTimeout = Annotated[
    float,
    typer.Option(
        envvar="LORADOCK_RECEIVE_TIMEOUT", min=1, help="Seconds for a request's head, and for a pause within its body."
    ),
]
_DrainTimeout = Annotated[
    float,
    typer.Option(
        envvar="LORADOCK_DRAIN_TIMEOUT", min=0, help="Seconds that running answers have to end when the server stops."
    ),
]
_FinishRevoked = Annotated[
    bool,
    typer.Option(envvar="LORADOCK_FINISH_REVOKED", help="Let answers end that a key began which is revoked meanwhile."),
]
_LogLevel = Annotated[
    LogLevel,
    typer.Option(envvar="LORADOCK_LOG_LEVEL", case_sensitive=False, help="From which weight on the server logs."),
]
_LogRequests = Annotated[
    bool,
    typer.Option("--log-requests", envvar="LORADOCK_LOG_REQUESTS", help="Log a line for every request, and by whom."),
]


def serve(
    host: Annotated[str, typer.Option(envvar="LORADOCK_HOST", help="The address to listen on.")] = "127.0.0.1",
    port: _Port = DEFAULT_PORT,
    data_dir: Annotated[
        Path, typer.Option(envvar="LORADOCK_DATA_DIR", help="Where everything is kept: keys, adapters, the database.")
    ] = default_data_dir(),  # noqa: B008
    import_root: Annotated[
        Path | None, typer.Option(envvar="LORADOCK_IMPORT_ROOT", help="The folder that file:// uploads may read.")
    ] = None,
    bootstrap_account: Annotated[
        str, typer.Option(envvar="LORADOCK_BOOTSTRAP_ACCOUNT", help="The first account, which has the first key.")
    ] = "local",
    bootstrap_key: Annotated[
        str | None, typer.Option(envvar="LORADOCK_BOOTSTRAP_KEY", help="Fix the first key instead of making one.")
    ] = None,
    allow_private_sources: Annotated[
        bool, typer.Option(envvar="LORADOCK_ALLOW_PRIVATE_SOURCES", help="Let uploads fetch from private addresses.")
    ] = False,
    keep_replicas: Annotated[
        bool, typer.Option(envvar="LORADOCK_KEEP_REPLICAS", help="Leave engines running when the server stops.")
    ] = False,
    scale_target: Annotated[
        float, typer.Option(envvar="LORADOCK_SCALE_TARGET", min=0.1, help="Requests in flight one replica should have.")
    ] = 8.0,
    scale_up_after: Annotated[
        float, typer.Option(envvar="LORADOCK_SCALE_UP_AFTER", min=0, help="Seconds of more load that add a replica.")
    ] = 10.0,
    scale_down_after: Annotated[
        float, typer.Option(envvar="LORADOCK_SCALE_DOWN_AFTER", min=0, help="Seconds of less load that end one.")
    ] = 300.0,
    engine_threads: Annotated[
        int, typer.Option(envvar="LORADOCK_ENGINE_THREADS", min=0, help="CPU threads per replica; 0: one per core.")
    ] = 0,
    quantization: _Quantization = None,
    engine_args: _EngineArgs = "",
    vllm_python: _VllmPython = None,
    vllm_args: _VllmArgs = "",
    begin_anew: Annotated[
        bool,
        typer.Option("--begin-anew", help="Start although the database is lost or damaged; what is left is set aside."),
    ] = False,
    trash_days: Annotated[
        int, typer.Option(envvar="LORADOCK_TRASH_DAYS", min=1, help="How long what is set aside is kept.")
    ] = 14,
    public_url: _PublicUrl = None,
    trusted_proxies: _TrustedProxies = "127.0.0.1,::1",
    allow_origin: _AllowOrigin = None,
    keep_alive: _KeepAlive = 3.0,
    receive_timeout: _ReceiveTimeout = 20.0,
    drain_timeout: _DrainTimeout = 10.0,
    finish_revoked: _FinishRevoked = False,
    log_level: _LogLevel = LogLevel.INFO,
    log_requests: _LogRequests = False,
) -> None:
    """Run the server: API, gateway and control loop in one process."""
    from loradock.configuration.settings import Front, Settings
    from loradock.server.cors import read_origins
    from loradock.server.outside import read_public_url
    from loradock.server.run import run

    settings = Settings(
        data_dir=data_dir.expanduser().resolve(),
        host=host,
        port=port,
        import_root=serve_checks.existing_folder("--import-root", import_root) if import_root else None,
        bootstrap_account=bootstrap_account,
        bootstrap_key=serve_checks.long_enough(bootstrap_key) if bootstrap_key else None,
        allow_private_sources=allow_private_sources,
        keep_replicas=keep_replicas,
        scale_target=scale_target,
        scale_up_after=scale_up_after,
        scale_down_after=scale_down_after,
        engine_threads=engine_threads,
        quantization=quantization,
        engine_args=serve_checks.engine_words(engine_args),
        vllm_python=serve_checks.vllm_python(vllm_python) if vllm_python else None,
        vllm_args=serve_checks.split("--vllm-args", vllm_args),
        begin_anew=begin_anew,
        trash_days=trash_days,
        front=Front(
            public_url=read_public_url(public_url) if public_url else None,
            trusted_proxies=tuple(trusted_proxies.split(",")),
            allow_origins=read_origins(allow_origin or ()),
            keep_alive=keep_alive,
            receive_timeout=receive_timeout,
            drain_timeout=drain_timeout,
            finish_revoked=finish_revoked,
        ),
        log_level=log_level,
        log_requests=log_requests,
    )
    warn_of_plain_http(settings)
    run(settings, on_ready=banner)
