"""Events, jobs and logs: one line per attach, what goes on is followed, times in one zone."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from loradock.store.database import Database
from loradock.store.tables import Endpoint
from loradock.types.enums import DesiredState, EndpointState
from tests.servers import BASE, EXAMPLES, KEY, create_endpoint, upload


@pytest.fixture
def following(server, tmp_path):
    """Starts a command that goes on until Ctrl-C; gives its lines."""
    running = []

    def start(*arguments):
        environment = {**os.environ, "LORADOCK_BASE_URL": server.url, "LORADOCK_API_KEY": KEY, "COLUMNS": "200"}
        command = [sys.executable, "-u", "-m", "loradock.cli.main", *arguments]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process.stdout

    yield start
    for process in running:
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 130


def until(lines, wanted):
    return next(line for line in lines if wanted in line)


def attach(http, endpoint, adapter):
    body = {"model_id": f"{endpoint['name']}:{adapter}"}
    assert http.post(f"/v1/endpoints/{endpoint['id']}/adapters", json=body).status_code == 200
    return body


def detach(http, endpoint, body):
    assert http.request("DELETE", f"/v1/endpoints/{endpoint['id']}/adapters", json=body).status_code == 200


def test_an_attach_is_one_line_and_its_steps_are_there_on_demand(run, http, dock):
    detach(http, dock, attach(http, dock, "tester/json"))
    short = run("events", "tester/json").stdout
    assert len(re.findall("attach\\.", short)) == 1
    assert re.search(rf"attach\.route +tester/json → {re.escape(dock['name'])}: attached in \d+ ms", short)
    steps = run("events", "tester/json", "--steps").stdout
    for step in ("authorize", "resolve", "compatible", "fits", "stage", "load", "probe", "route"):
        assert f"attach.{step}" in steps
    whole = http.get("/v1/events", params={"subject": "tester/json", "limit": 200}).json()["data"]
    assert [event["kind"] for event in whole].count("attach.stage") == 1


def test_events_are_followed(following, http, dock):
    lines = following("events", "--follow", "--limit", "1")
    next(lines)
    made = create_endpoint(http, state="STOPPED")
    assert made["name"] in until(lines, "endpoint.created")
    detach(http, dock, attach(http, dock, "tester/pirate"))
    assert "attached in" in until(lines, "attach.route")
    assert "pirate" in until(lines, "detach.begun")


def test_events_after_one_come_in_order(http, dock):
    first = http.get("/v1/events", params={"limit": 1}).json()["data"][0]["id"]
    for name in ("a", "b", "c"):
        create_endpoint(http, state="STOPPED", display_name=name)
    after = http.get("/v1/events", params={"after": first, "limit": 2}).json()
    ids = [event["id"] for event in after["data"]]
    assert (len(ids), ids == sorted(ids), after["has_more"]) == (2, True, True)


def test_jobs(run, http, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "adapter_config.json").write_text("{}")
    (tmp_path / "bad" / "adapter_model.safetensors").write_bytes(b"x")
    good, bad = upload(http, "good", EXAMPLES / "pirate"), upload(http, "bad", tmp_path / "bad", base_model=BASE)
    assert (good["status"], bad["status"]) == ("Complete", "Failed")
    listed = run("jobs", "list").stdout
    for job in (good, bad):
        assert job["job_id"] in listed
    assert bad["message"].split()[0] in listed  # why, below its row
    only = json.loads(run("jobs", "list", "--status", "failed", "--json").stdout)["data"]
    assert [job["job_id"] for job in only] == [bad["job_id"]]
    assert json.loads(run("jobs", "list", "--search", "good", "--json").stdout)["total"] == 1
    assert "1 more" not in run("jobs", "list").stdout
    assert "more: --limit" in run("jobs", "list", "--limit", "1").stdout
    shown = run("jobs", "show", bad["job_id"]).stdout
    assert "Failed" in shown
    assert run("jobs", "show", "job-none").returncode == 1
    stamp = good["status_updates"][0]["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)


def test_logs_of_an_endpoint(run, following, http, dock):
    shown = run("endpoints", "logs", "dock")
    assert (shown.returncode, shown.stdout.strip() != "") == (0, True), shown.stderr
    whole = json.loads(run("endpoints", "logs", dock["name"], "--json").stdout)["data"]
    assert len(whole) == 1
    path = f"/v1/endpoints/{dock['id']}/logs"
    (part,) = http.get(path, params={"replica": whole[0]["replica"], "after": 0}).json()["data"]
    assert part["text"].endswith(whole[0]["text"])
    again = http.get(path, params={"replica": part["replica"], "after": part["end"]}).json()["data"]
    assert again == [{**part, "text": ""}]
    assert http.get(path, params={"replica": "rep_none"}).status_code == 404
    assert http.get("/v1/endpoints/endpoint-none/logs").status_code == 404
    lines = following("endpoints", "logs", "dock", "-f", "-n", "1")
    assert next(lines)


def test_one_time_zone_for_all(run, http, dock):
    moment = json.loads(run("endpoints", "retrieve", "dock", "--json").stdout)["created_at"]
    assert moment.endswith("Z")
    as_utc = moment[:19].replace("T", " ")
    assert f"{as_utc} UTC" in run("endpoints", "retrieve", "dock", "--utc", TZ="Asia/Tokyo").stdout
    for variables in ({"LORADOCK_TZ": "UTC", "TZ": "Asia/Tokyo"}, {"TZ": "UTC"}):
        listed = run("endpoints", "list", **variables).stdout
        assert as_utc in listed
        assert "CREATED (UTC)" in listed
    for variables in ({"LORADOCK_TZ": "Asia/Tokyo"}, {"TZ": "Asia/Tokyo"}):
        listed = run("endpoints", "list", **variables).stdout
        assert as_utc not in listed
        assert "CREATED (JST)" in listed
    for arguments in (["events"], ["endpoints", "list"]):
        wrong = run(*arguments, LORADOCK_TZ="Mars/Base")
        assert (wrong.returncode, "LORADOCK_TZ" in wrong.stderr) == (2, True)


def test_a_list_gives_the_reason_of_an_error(run, server, http):
    made = create_endpoint(http, state="STOPPED", display_name="broken")
    database = Database(f"sqlite:///{server.data_dir / 'loradock.db'}")
    reason = "the engine ended: " + " ".join(["its weights could not be read"] * 5)
    with database.session() as session:
        row = session.get(Endpoint, made["id"]).deployment
        row.desired, row.state, row.message = DesiredState.STARTED, EndpointState.ERROR, reason
    database.close()
    (item,) = http.get("/v1/endpoints", params={"search": "broken"}).json()["data"]
    assert (item["state"], item["message"]) == ("ERROR", reason)
    shown = run("endpoints", "list", "--search", "broken", COLUMNS="80").stdout
    assert reason in re.sub(r"\s+└?\s*", " ", shown)
    assert max(map(len, shown.splitlines())) <= 80
    assert http.delete(f"/v1/endpoints/{made['id']}").status_code == 204


def test_tables_fit_the_terminal(run, http, dock):
    body = attach(http, dock, "tester/shout")
    for command in (
        ["endpoints", "list"],
        ["endpoints", "adapters", "list", "dock"],
        ["endpoints", "replicas", "dock"],
        ["models", "list"],
        ["jobs", "list"],
        ["events"],
        ["endpoints", "hardware"],
    ):
        shown = run(*command, COLUMNS="80")
        assert shown.returncode == 0, shown.stderr
        assert max(map(len, shown.stdout.splitlines())) <= 80, shown.stdout
    narrow = run("endpoints", "list", COLUMNS="80").stdout
    assert dock["name"] in narrow
    assert "No room for BITS, ID, CREATED" in narrow
    assert dock["id"] in run("endpoints", "list", "--wide", COLUMNS="80").stdout
    detach(http, dock, body)
