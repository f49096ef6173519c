"""What a server says may hold brackets, which are no markup."""

from loradock.cli.commands import models, uploading
from loradock.cli.waiting import wait_for
from loradock.types.enums import EndpointState

SAID = "fetching https://a.example/[/x] [bold]y"


class Server:
    """Gives one answer after the other."""

    def __init__(self, *answers):
        self._answers = iter(answers)

    def call(self, *_, **__):
        return next(self._answers)


def test_the_steps_of_an_upload(capsys):
    job = {"status": "Complete", "status_updates": [{"status": "Running", "message": SAID}]}
    assert uploading.follow(Server(job), "job-1", quiet=False) == job
    assert SAID in capsys.readouterr().out


def test_what_a_start_waits_for():
    started = {"state": EndpointState.STARTED}
    server = Server({"state": EndpointState.PENDING, "message": SAID}, started)
    assert wait_for(server, "endpoint-1", EndpointState.STARTED, quiet=False) == started


def test_what_was_found_of_a_base_model(capsys, monkeypatch):
    answer = {"id": "me/a", "base_model": "Org/Base", "message": SAID}
    monkeypatch.setattr(models, "Client", lambda *_: Server(answer))
    models.update("a", "Org/Base")
    assert SAID in capsys.readouterr().out.replace("\n", " ")
