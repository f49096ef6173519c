"""The command line against a real server: tables, JSON, exit codes, words."""

import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from tests.servers import BASE, EXAMPLES, create_endpoint


def test_help_lists_every_command(run):
    shown = run("--help").stdout
    for command in ("serve", "demo", "engine", "events", "keys", "models", "endpoints"):
        assert command in shown


def test_events(run, dock):
    shown = run("events", dock["id"])
    assert shown.returncode == 0, shown.stderr
    assert "endpoint.created" in shown.stdout
    assert "bootstrap …ount" in shown.stdout
    one = json.loads(run("events", dock["name"], "--limit", "1", "--json").stdout)
    assert [event["subject_id"] for event in one["data"]] == [dock["id"]]
    assert f" events --before {one['data'][0]['id']} {dock['id']}" in run("events", dock["id"], "--limit", "1").stdout
    refused = run("events", "--limit", "0")
    assert (refused.returncode, "limit" in refused.stderr) == (2, True)


def test_dock_an_adapter(run, dock):
    added = run("endpoints", "adapters", "add", dock["id"], "tester/json")
    assert added.returncode == 0, added.stderr
    assert f"{dock['name']}:tester/json" in added.stdout
    for alias in ("list", "ls"):
        listed = json.loads(run("endpoints", "adapters", alias, dock["id"], "--json").stdout)
        assert "tester/json" in [row["adapter_name"] for row in listed["data"]]
    assert "tester/json" in run("endpoints", "adapters", "list", dock["id"]).stdout
    for alias in ("remove", "rm", "delete"):
        run("endpoints", "adapters", "add", dock["name"], "tester/json")
        assert run("endpoints", "adapters", alias, dock["id"], "tester/json", "--json").returncode == 0


def test_upload_wait_show_delete(run, dock):
    done = run("models", "upload", "from-cli", str(EXAMPLES / "json"), "--description", "by hand")
    assert done.returncode == 0, done.stderr
    assert "tester/from-cli is ready" in done.stdout
    shown = json.loads(run("models", "retrieve", "tester/from-cli", "--json").stdout)
    assert (shown["rank"], shown["base_model"]) == (16, BASE)
    assert "tester/from-cli" in run("models", "list").stdout
    assert run("models", "delete", "tester/from-cli").returncode == 0
    assert run("models", "retrieve", "tester/from-cli").returncode == 1


def test_a_refused_upload_says_why(run, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "use_dora": true}')
    (tmp_path / "bad" / "adapter_model.safetensors").write_bytes(
        (EXAMPLES / "json/adapter_model.safetensors").read_bytes()
    )
    refused = run("models", "upload", "bad", str(tmp_path / "bad"), "--base-model", BASE)
    assert refused.returncode == 1
    assert "DoRA" in refused.stderr


def test_an_adapter_in_a_subfolder(run, tmp_path):
    for step in (500, 1000):
        shutil.copytree(EXAMPLES / "json", tmp_path / "run" / f"checkpoint-{step}")
    (tmp_path / "run" / "optimizer.pt").write_bytes(b"x")
    refused = run("models", "upload", "nested", str(tmp_path / "run"))
    assert refused.returncode == 1
    assert "several adapters here: checkpoint-500, checkpoint-1000" in refused.stderr
    assert f" models upload {tmp_path}/run/*" in refused.stderr
    done = run("models", "upload", "nested", str(tmp_path / "run"), "--subfolder", "checkpoint-1000")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "run" / "checkpoint-500")
    assert run("models", "upload", "nested2", str(tmp_path / "run")).returncode == 0


def test_the_base_of_an_adapter_is_corrected(run, dock):
    assert run("models", "upload", "astray", str(EXAMPLES / "json"), "--base-model", "models/x").returncode == 0
    refused = run("endpoints", "adapters", "add", dock["id"], "astray")
    assert refused.returncode == 1
    assert "adapter base model is not compatible with endpoint model: " in refused.stderr
    assert f"loradock models update tester/astray --base-model {BASE}" in refused.stderr
    corrected = run("models", "update", "astray", "--base-model", BASE)
    assert corrected.returncode == 0, corrected.stderr
    assert f"tester/astray is for {BASE}: shapes agree" in corrected.stdout
    assert run("models", "update", "astray", "--base-model", "a:b").returncode == 1


def test_endpoint_life(run):
    made = json.loads(run("endpoints", "create", BASE, "--no-auto-start", "--json").stdout)
    assert made["state"] == "STOPPED"
    assert made["id"] in run("endpoints", "list").stdout
    updated = run("endpoints", "update", made["id"], "--display-name", "mine", "--max-replicas", "2", "--json")
    assert json.loads(updated.stdout)["display_name"] == "mine"
    assert run("endpoints", "update", made["id"]).returncode == 2
    assert "mine" in run("endpoints", "retrieve", made["name"]).stdout
    assert run("endpoints", "delete", made["id"]).returncode == 0


def test_wait_follows_a_start_and_a_stop(run, http):
    endpoint = create_endpoint(http, state="STOPPED")
    started = run("endpoints", "start", endpoint["id"], "--wait", "--json")
    assert json.loads(started.stdout)["state"] == "STARTED", started.stderr
    stopped = run("endpoints", "stop", endpoint["id"], "--wait", "--json")
    assert json.loads(stopped.stdout)["state"] == "STOPPED"
    assert http.delete(f"/v1/endpoints/{endpoint['id']}").status_code == 204


def test_errors_are_one_line_and_exit_one(run):
    missing = run("endpoints", "retrieve", "endpoint-none")
    assert (missing.returncode, missing.stderr) == (1, "Error: No endpoint with this id exists\n")
    as_json = run("endpoints", "retrieve", "endpoint-none", "--json")
    assert json.loads(as_json.stdout)["error"]["type"] == "not_found"
    nobody = run("endpoints", "list", LORADOCK_BASE_URL="http://127.0.0.1:9")
    assert nobody.returncode == 1
    assert re.search(r"Start one with: .*loradock\S* serve,", nobody.stderr)
    wrong = run("endpoints", "list", LORADOCK_API_KEY="ld-wrong")
    assert "loradock keys create" in wrong.stderr
    for result in (missing, nobody, wrong):
        assert "Traceback" not in result.stderr


def test_keys_live_in_the_data_folder(run):
    assert "No keys yet" in run("keys", "list").stdout
    made = json.loads(run("keys", "create", "ci", "--account", "team-b", "--json").stdout)
    assert made["key"].startswith("ld-")
    listed = run("keys", "list", "--json").stdout
    assert made["key"] not in listed
    assert json.loads(listed)[0]["account"] == "team-b"
    assert run("keys", "revoke", made["id"]).returncode == 0
    assert json.loads(run("keys", "list", "--json").stdout)[0]["status"] == "revoked"


def test_a_mistyped_data_folder_is_not_made(run, tmp_path):
    for command in (("list",), ("create", "ci"), ("revoke", "key_1")):
        refused = run("keys", *command, LORADOCK_DATA_DIR=str(tmp_path / "typo"))
        assert refused.returncode == 1
        assert "check --data-dir" in refused.stderr
        assert not (tmp_path / "typo").exists()


def test_listing_keys_makes_no_database(run, tmp_path):
    assert "No keys yet" in run("keys", "list").stdout
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_no_header_can_carry_is_refused_in_words(run):
    refused = run("endpoints", "list", LORADOCK_API_KEY="ld-schlüssel")
    assert refused.returncode == 1
    assert "copy it again" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_server_that_is_not_loradock_is_told_apart(run):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as other:
        threading.Thread(target=other.handle_request).start()
        refused = run("endpoints", "list", LORADOCK_BASE_URL=f"http://127.0.0.1:{other.server_port}")
    assert refused.returncode == 1
    assert "not as Loradock does" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_replicas_are_shown_with_what_they_hold(run, dock):
    shown = run("endpoints", "replicas", dock["id"])
    assert shown.returncode == 0, shown.stderr
    assert "READY" in shown.stdout
    (replica,) = json.loads(run("endpoints", "replicas", dock["id"], "--json").stdout)["data"]
    assert replica["state"] == "READY"
