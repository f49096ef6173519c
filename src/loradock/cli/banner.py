"""The text that a server that is up shows to the person who started it."""

import shlex

from rich.markup import escape

from loradock.cli.output import complaints, console
from loradock.cli.usage import program
from loradock.configuration.address import is_loopback
from loradock.configuration.settings import Settings, default_data_dir
from loradock.types.extras import has_engine

_BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def banner(settings: Settings, key: str, made: bool) -> None:
    """`made`: the key was made just now. The commands work as they stand, in another terminal of this machine."""
    url, account = settings.url, settings.bootstrap_account
    _say(f"\n[bold]Loradock[/bold] is up at [bold]{url}/v1[/bold], account [bold]{escape(account)}[/bold]")
    if made:
        _say(f"Your API key, shown this once: [bold]{escape(key)}[/bold]")
    _say(f"The key is kept in {escape(str(settings.key_file))} (mode 600).")
    _say(f"Dashboard: [bold]{url}[/bold] (sign in with the key)\n")
    if not has_engine():
        _say('The built-in engine is not installed (pip install "loradock\\[engine]"): endpoints need vLLM.\n')
    run, where = program(), _where(settings)
    _say("Next, in another terminal:")
    for line in (
        f"{run} endpoints create {_BASE} --display-name chat --wait{where}",
        f"{run} models upload my-adapter ./my-adapter{where}   # the folder that PEFT wrote",
        f"{run} endpoints adapters attach chat my-adapter{where}",
    ):
        _say(f"  {escape(line)}")
    _say("")


def warn_of_plain_http(settings: Settings) -> None:
    if not is_loopback(settings.host):
        complaints.print(
            f"[yellow]Warning:[/yellow] --host {escape(settings.host)} serves plain HTTP to other machines: whoever is"
            " on the way can read keys and prompts. Put a proxy with TLS in front of it (and keep --host 127.0.0.1), or"
            " keep to a network that you trust.",
            soft_wrap=True,
        )


def _where(settings: Settings) -> str:
    """Return the options by which a command finds this server: nothing where the folder is the usual one."""
    if settings.data_dir == default_data_dir().resolve():
        return ""
    return f" --data-dir {shlex.quote(str(settings.data_dir))}"


def _say(text: str) -> None:
    console.print(text, soft_wrap=True)
