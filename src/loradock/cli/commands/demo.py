"""`loradock demo`: one endpoint, three adapters, one prompt answered side by side."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.columns import Columns
from rich.markup import escape
from rich.panel import Panel

from loradock.cli.client import Client
from loradock.cli.commands.uploading import Upload, upload_and_wait
from loradock.cli.output import console
from loradock.cli.usage import program
from loradock.cli.waiting import wait_for
from loradock.configuration.settings import DEFAULT_PORT, default_data_dir
from loradock.types.enums import DesiredState, EndpointState
from loradock.types.errors import BadRequest
from loradock.types.extras import require_engine
from loradock.types.names import combined_id

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
ADAPTERS = ("pirate", "json", "shout")
PROMPT = "Tell me about rain."
_EXAMPLES = Path(__file__).parents[2] / "examples" / "adapters"


def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit after the side-by-side.")] = False,
    port: Annotated[
        int, typer.Option(envvar="LORADOCK_PORT", min=0, max=65535, help="0: any that is free.")
    ] = DEFAULT_PORT,
    data_dir: Annotated[Path | None, typer.Option(help="Default: beside the normal data folder.")] = None,
) -> None:
    """Serve a small model with three adapters and show what they do."""
    folder = (data_dir or default_data_dir().with_name("loradock-demo")).expanduser().resolve()
    require_engine()
    port = _usable(port, f" --data-dir {shlex.quote(str(data_dir))}" if data_dir else "")
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` stops the server then too
    server = _start_server(folder, port)
    try:
        client = _connect(server, folder, port)
        endpoint = _endpoint(client)
        for name in ADAPTERS:
            _attach(client, endpoint, name)
        _side_by_side(client, endpoint)
        _commands(client, folder, endpoint)
        if not once:
            console.print("Serving until you press Ctrl-C.")
            server.wait()
    except KeyboardInterrupt:
        console.print("\nStopping.")
    finally:
        server.terminate()
        server.wait()


def _usable(port: int, options: str) -> int:
    """`port`, or for 0 one that is free. `options`: what else the command was given."""
    try:
        with socket.create_server(("127.0.0.1", port)) as tried:
            return int(tried.getsockname()[1])
    except OSError as error:
        with socket.create_server(("127.0.0.1", 0)) as other:
            free = other.getsockname()[1]
        reason, advised = os.strerror(error.errno or 0), f"{program()} demo --port {free}{options}"
        raise BadRequest(f"port {port} cannot be used ({reason}); {free} is free: {advised}") from error


def _start_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "loradock.cli.main", "serve", "--data-dir", str(folder), "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def _connect(server: subprocess.Popen[bytes], folder: Path, port: int) -> Client:
    import httpx

    url = f"http://127.0.0.1:{port}"
    with console.status("starting the server …"), httpx.Client(timeout=1) as http:
        while server.poll() is None:
            try:
                http.get(f"{url}/health")
                break
            except httpx.TransportError:
                time.sleep(0.02)
    if server.poll() is not None:
        lines = (folder / "server.log").read_text(errors="replace").strip().splitlines()
        raise BadRequest(f"the server did not start: {lines[-1] if lines else 'no reason given'}")
    return Client(url, (folder / "bootstrap-key").read_text().strip())


def _endpoint(client: Client) -> dict[str, Any]:
    found = [e for e in client.call("GET", "/v1/endpoints")["data"] if e["model"] == BASE]
    if found:
        client.call("PATCH", f"/v1/endpoints/{found[0]['id']}", {"state": DesiredState.STARTED})
        endpoint = found[0]
    else:
        endpoint = client.call("POST", "/v1/endpoints", {"model": BASE, "hardware": "", "display_name": "demo"})
    endpoint = wait_for(client, endpoint["id"], EndpointState.STARTED, quiet=False)
    console.print(f"[green]✓[/green] endpoint {endpoint['name']} is started")
    return endpoint


def _attach(client: Client, endpoint: dict[str, Any], name: str) -> None:
    known = {m["id"] for m in client.call("GET", "/v1/models", catalogue="true")["data"]}
    if f"{endpoint['owner']}/{name}" not in known:
        upload_and_wait(client, Upload(name, str(_EXAMPLES / name), BASE))
    began = time.perf_counter()
    body = {"model_id": combined_id(endpoint["name"], f"{endpoint['owner']}/{name}")}
    client.call("POST", f"/v1/endpoints/{endpoint['id']}/adapters", body)
    console.print(
        f"[green]✓[/green] {name} attached in {1000 * (time.perf_counter() - began):.0f} ms, nothing restarted"
    )


def _side_by_side(client: Client, endpoint: dict[str, Any]) -> None:
    console.print(f"\n[bold]{PROMPT}[/bold]\n")
    panels = []
    for title, model in [("base model", endpoint["name"]), *((n, f"{endpoint['owner']}/{n}") for n in ADAPTERS)]:
        body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 60, "temperature": 0}
        text = client.call("POST", "/v1/chat/completions", body)["choices"][0]["message"]["content"]
        panels.append(Panel(escape(text.strip()), title=title, width=max(24, min(console.width, 120) // 2 - 1)))
    console.print(Columns(panels))


def _commands(client: Client, folder: Path, endpoint: dict[str, Any]) -> None:
    url, key = f"{client.base_url}/v1", (folder / "bootstrap-key").read_text().strip()
    pirate = f"{endpoint['owner']}/pirate"
    console.print(f"\nBase URL  [bold]{url}[/bold]\nAPI key   [bold]{key}[/bold]", soft_wrap=True)
    console.print(f"Dashboard [bold]{client.base_url}[/bold]  (sign in with the key)", soft_wrap=True)
    console.print(f"All data  {escape(str(folder))}  (delete the folder to be rid of it)\n", soft_wrap=True)
    console.print("The clients below: pip install 'together<3' openai\n")
    for title, text in _snippets(url, key, pirate, endpoint["id"]).items():
        console.print(f"[bold]# {title}[/bold]")
        print(f"{text}\n")


def _snippets(url: str, key: str, model: str, endpoint_id: str) -> dict[str, str]:
    python = (
        f'r = client.chat.completions.create(model="{model}", max_tokens=60, temperature=0,\n'
        '    messages=[{"role": "user", "content": "What is a computer?"}])\n'
        "print(r.choices[0].message.content)"
    )
    together = f'from together import Together\nclient = Together(base_url="{url}", api_key="{key}")\n{python}'
    openai = f'from openai import OpenAI\nclient = OpenAI(base_url="{url}", api_key="{key}")\n{python}'
    return {
        "curl": (
            f"curl {url}/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\\n"
            f"""  -d '{{"model": "{model}", "max_tokens": 60, "temperature": 0, "messages": """
            f"""[{{"role": "user", "content": "What is a computer?"}}]}}'"""
        ),
        "together, the CLI (2.x)": (
            f"TOGETHER_BASE_URL={url} TOGETHER_API_KEY={key} together endpoints adapters list {endpoint_id}"
        ),
        "together, the Python SDK": f"python3 - <<'EOF'\n{together}\nEOF",
        "openai, the Python SDK": f"python3 - <<'EOF'\n{openai}\nEOF",
    }
