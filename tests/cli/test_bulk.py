"""Many adapters at once: uploaded, attached, detached, and brought to what a file says."""

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys

import pytest

from tests.servers import EXAMPLES, KEY, create_endpoint, upload

NAMES = ("json", "pirate", "shout")


@pytest.fixture(scope="module")
def ready(server):
    """An endpoint that rests, and three uploaded adapters."""
    with server.client() as http:
        for name in NAMES:
            assert upload(http, name)["status"] == "Complete"
        return create_endpoint(http, state="STOPPED", display_name="bulk")


@pytest.fixture
def endpoint(ready, http):
    """With nothing attached, before and after."""
    yield ready
    for row in attached(http, ready):
        body = {"model_id": f"{ready['name']}:{row}"}
        assert http.request("DELETE", f"/v1/endpoints/{ready['id']}/adapters", json=body).status_code == 200


def attached(http, endpoint):
    return [row["adapter_name"] for row in http.get(f"/v1/endpoints/{endpoint['id']}/adapters").json()["data"]]


def test_many_folders_are_uploaded_under_their_own_names(run, http, tmp_path):
    for name in ("one", "two", "three"):
        shutil.copytree(EXAMPLES / "pirate", tmp_path / "adapters" / name)
    (tmp_path / "adapters" / "README.md").write_text("notes")
    (tmp_path / "adapters" / "broken").mkdir()
    (tmp_path / "adapters" / "broken" / "adapter_config.json").write_text("{}")
    sources = sorted(str(path) for path in (tmp_path / "adapters").iterdir())
    done = run("models", "upload", *sources)
    assert done.returncode == 1
    assert "3 uploaded, 1 failed." in done.stdout or "1 failed, 3 uploaded." in done.stdout
    assert "broken:" in done.stderr
    assert "README.md" in done.stdout
    known = {model["id"] for model in http.get("/v1/models", params={"catalogue": "true"}).json()["data"]}
    assert {"tester/one", "tester/two", "tester/three"} <= known
    again = run("models", "upload", *sources[2:], "--skip-existing", "--json")
    assert [row["status"] for row in json.loads(again.stdout)["data"]] == ["already there"] * 3, again.stderr
    assert again.returncode == 0
    for name in ("one", "two", "three"):
        assert http.delete(f"/v1/models/tester%2F{name}").status_code == 200


def test_one_source_needs_no_name(run, http, tmp_path):
    shutil.copytree(EXAMPLES / "pirate", tmp_path / "lone")
    done = run("models", "upload", str(tmp_path / "lone"))
    assert "tester/lone is ready" in done.stdout
    assert run("models", "upload", "--name", "named", str(tmp_path / "lone")).returncode == 0
    for name in ("lone", "named"):
        assert http.delete(f"/v1/models/tester%2F{name}").status_code == 200


def test_a_failed_upload_says_why_once(run, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    (tmp_path / "bad" / "adapter_model.safetensors").write_bytes(
        (EXAMPLES / "json/adapter_model.safetensors").read_bytes()
    )
    refused = run("models", "upload", "bad", str(tmp_path / "bad"))
    assert refused.returncode == 1
    reason = refused.stderr.removeprefix("Error: ").strip()
    assert reason
    assert reason not in refused.stdout


def test_several_are_deleted(run, http, tmp_path):
    for name in ("gone-a", "gone-b"):
        shutil.copytree(EXAMPLES / "pirate", tmp_path / name)
    assert run("models", "upload", str(tmp_path / "gone-a"), str(tmp_path / "gone-b")).returncode == 0
    done = run("models", "delete", "gone-a", "tester/gone-b", "nobody")
    assert (done.returncode, "2 deleted, 1 failed." in done.stdout) == (1, True)
    assert http.get("/v1/models", params={"catalogue": "true", "search": "gone-"}).json()["total"] == 0


def test_several_adapters_are_attached_and_detached(run, http, endpoint):
    done = run("endpoints", "adapters", "add", "bulk", "pirate", "tester/json", "shout", "pirate")
    assert (done.returncode, "3 attached." in done.stdout) == (0, True), done.stderr
    assert sorted(attached(http, endpoint)) == [f"tester/{name}" for name in NAMES]
    done = run("endpoints", "adapters", "detach", "bulk", "pirate", "json", "--json")
    assert [row["status"] for row in json.loads(done.stdout)["data"]] == ["detached", "detached"]
    assert attached(http, endpoint) == ["tester/shout"]
    assert run("endpoints", "adapters", "remove", "bulk", "--all").returncode == 0
    assert attached(http, endpoint) == []
    assert "No adapters are attached." in run("endpoints", "adapters", "remove", "bulk", "--all").stdout


def test_what_fails_is_told_and_the_rest_is_done(run, http, endpoint):
    done = run("endpoints", "adapters", "add", "bulk", "pirate", "nobody", "shout")
    assert done.returncode == 1
    assert "2 attached, 1 failed." in done.stdout
    assert "[2/3] nobody: Could not find model" in done.stderr
    shown = run("endpoints", "adapters", "add", "bulk", "nobody", "nothing", "--json")
    assert shown.returncode == 1
    assert [row["error"]["type"] for row in json.loads(shown.stdout)["data"]] == ["not_found"] * 2


def test_a_server_that_is_gone_is_told_once(run):
    done = run("endpoints", "adapters", "add", "bulk", "a", "b", LORADOCK_BASE_URL="http://127.0.0.1:9")
    assert (done.returncode, done.stderr.count("no server answers")) == (1, 1)


@pytest.mark.parametrize("arguments", [[], ["pirate", "--all"]])
def test_detach_wants_names_or_all(run, arguments, endpoint):
    assert run("endpoints", "adapters", "detach", "bulk", *arguments).returncode == 2


def test_an_attached_adapter_is_named_so_that_it_can_be_called(run, http, endpoint):
    done = run("endpoints", "adapters", "attach", "bulk", "pirate")
    named = [word.removeprefix("model=") for word in done.stdout.split() if "tester/pirate" in word]
    assert f"{endpoint['name']}:tester/pirate" in named
    for model in named:
        told = http.post("/v1/completions", json={"model": model, "prompt": "x"}).json()["error"]
        assert "is STOPPED" in told["message"], model  # found, not unknown


def test_an_endpoint_goes_with_its_adapters(run, http, ready):
    other = create_endpoint(http, state="STOPPED", display_name="short-lived")
    assert run("endpoints", "adapters", "add", "short-lived", "pirate", "json").returncode == 0
    refused = run("endpoints", "delete", "short-lived")
    assert (refused.returncode, "--detach" in refused.stderr) == (1, True)
    assert run("endpoints", "delete", "short-lived", "--detach").returncode == 0
    assert http.get(f"/v1/endpoints/{other['id']}").status_code == 404


def sync(run, tmp_path, text, *flags):
    file = tmp_path / "adapters.yaml"
    file.write_text(text)
    return run("endpoints", "adapters", "sync", "bulk", "--file", str(file), *flags)


def test_a_file_says_what_is_attached(run, http, endpoint, tmp_path):
    run("endpoints", "adapters", "add", "bulk", "pirate", "json")
    wanted = "adapters:\n  - tester/pirate\n  - name: shout\n"
    plan = sync(run, tmp_path, wanted, "--dry-run")
    assert plan.returncode == 0, plan.stderr
    said = "+ attach  tester/shout", "- detach  tester/json", "1 to attach, 1 to detach, 1 unchanged.", "Dry run"
    for line in said:
        assert line in plan.stdout
    assert sorted(attached(http, endpoint)) == ["tester/json", "tester/pirate"]
    seen = json.loads(sync(run, tmp_path, wanted, "--dry-run", "--json").stdout)
    assert (seen["add"], seen["remove"], seen["unchanged"]) == (["tester/shout"], ["tester/json"], ["tester/pirate"])
    done = sync(run, tmp_path, wanted)
    assert (done.returncode, "1 attached, 1 detached, 1 unchanged." in done.stdout) == (0, True), done.stderr
    assert sorted(attached(http, endpoint)) == ["tester/pirate", "tester/shout"]
    assert "Nothing to do, 2 unchanged." in sync(run, tmp_path, wanted).stdout
    assert sync(run, tmp_path, '["pirate"]').returncode == 0
    assert attached(http, endpoint) == ["tester/pirate"]
    assert sync(run, tmp_path, "adapters: []").returncode == 0
    assert attached(http, endpoint) == []


def test_a_file_may_say_where_an_adapter_comes_from(run, http, endpoint, tmp_path):
    shutil.copytree(EXAMPLES / "shout", tmp_path / "weights" / "loud")
    done = sync(run, tmp_path, "adapters:\n- {name: loud, source: ./weights/loud}\n")
    assert (done.returncode, attached(http, endpoint)) == (0, ["tester/loud"]), done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "": "needs a list `adapters:`",
        "adapters:": "needs a list",
        "adapters: pirate": "needs a list",
        "adapters: [pirate, pirate]": "more than once",
        "adapters: [pirate, tester/pirate]": "more than once",
        "adapters: [1.5]": "adapter 1",
        "adapters: [{name: a, sorce: b}]": "sorce",
        "adapters: [{name: pirate, source: 3}]": "source must be text",
        "adaptors: [pirate]": "adaptors",
        "adapters: [pirate, nobody]": "there is no adapter tester/nobody",
        "adapters: [": "not valid YAML",
        "!!python/object/apply:os.system ['true']": "not valid YAML",
    }.items(),
)
def test_a_wrong_file_changes_nothing(run, http, endpoint, tmp_path, text, said):
    refused = sync(run, tmp_path, text)
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert said in refused.stderr + refused.stdout
    assert attached(http, endpoint) == []


def test_an_adapter_of_another_endpoint_stands_in_the_way_of_a_sync(run, http, endpoint, tmp_path):
    other = create_endpoint(http, state="STOPPED", display_name="other")
    run("endpoints", "adapters", "add", "other", "pirate")
    refused = sync(run, tmp_path, "adapters: [pirate, json]")
    assert (refused.returncode, f"attached to {other['name']}" in refused.stderr) == (1, True)
    assert attached(http, endpoint) == []
    assert sync(run, tmp_path, "adapters: [pirate]", "--dry-run").returncode == 1
    assert run("endpoints", "delete", "other", "--detach").returncode == 0


def test_a_file_that_is_no_text_is_refused(run, endpoint, tmp_path):
    (tmp_path / "adapters.yaml").write_bytes(b"\xff\xfe\x00")
    refused = run("endpoints", "adapters", "sync", "bulk", "--file", str(tmp_path / "adapters.yaml"))
    assert (refused.returncode, "not valid YAML" in refused.stderr) == (1, True)
    missing = run("endpoints", "adapters", "sync", "bulk", "--file", str(tmp_path / "none.yaml"))
    assert (missing.returncode, "none.yaml: No such file" in missing.stderr) == (1, True)


@pytest.mark.parametrize(("answer", "left"), [("n", ["tester/json", "tester/pirate"]), ("y", [])])
def test_a_person_is_asked_before_adapters_go_offline(run, server, http, endpoint, answer, left):
    run("endpoints", "adapters", "add", "bulk", "pirate", "json")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "LORADOCK_BASE_URL": server.url, "LORADOCK_API_KEY": KEY, "TERM": "xterm"}
    command = [sys.executable, "-m", "loradock.cli.main", "endpoints", "adapters", "detach", "bulk", "--all"]
    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"Detach 2 adapters" not in shown:
            shown += os.read(ours, 1 << 16)
        os.write(ours, f"{answer}\n".encode())
        with contextlib.suppress(OSError):  # the other end is closed
            while os.read(ours, 1 << 16):
                pass
    os.close(ours)
    assert process.returncode == (1 if left else 0)
    assert sorted(attached(http, endpoint)) == left


def test_what_a_sync_cannot_do_is_told(run, http, endpoint, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "adapter_config.json").write_text("{}")
    done = sync(run, tmp_path, "adapters: [pirate, {name: broken, source: ./bad}]")
    assert (done.returncode, "1 attached, 1 failed, 0 unchanged." in done.stdout) == (1, True), done.stdout
    assert attached(http, endpoint) == ["tester/pirate"]


def test_long_lists_are_searched_sorted_and_cut(run, http, endpoint):
    run("endpoints", "adapters", "add", "bulk", "pirate", "json", "shout")
    path = f"/v1/endpoints/{endpoint['id']}/adapters"
    found = http.get(path, params={"sort": "-adapter_name", "limit": 2}).json()
    assert [row["adapter_name"] for row in found["data"]] == ["tester/shout", "tester/pirate"]
    assert (found["total"], found["has_more"]) == (3, True)
    assert http.get(path, params={"search": "PIR", "offset": 0}).json()["total"] == 1
    assert http.get(path, params={"limit": 2, "offset": 2}).json()["has_more"] is False
    assert set(http.get(path).json()) == {"object", "data"}
    wrong = http.get(path, params={"sort": "colour"})
    assert (wrong.status_code, "adapter_name" in wrong.text) == (400, True)
    assert "tester/json" in run("endpoints", "adapters", "list", "bulk", "--search", "son").stdout
    assert "tester/pirate" not in run("models", "list", "--search", "json", "--type", "adapter").stdout
    listed = json.loads(run("models", "list", "--sort", "-id", "--limit", "1", "--type", "adapter", "--json").stdout)
    assert [model["id"] for model in listed] == ["tester/shout"]
    assert run("endpoints", "list", "--limit", "0").returncode == 2
