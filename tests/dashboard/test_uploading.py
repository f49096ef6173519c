"""Bringing models in: files from here with a bar of bytes, sources elsewhere, and refusals that say what to change."""

import json
import shutil

import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import check_light_and_dark, expect_status, visitor
from tests.servers import EXAMPLES


@pytest.fixture
def gone(http):
    """Names to free again."""
    names: list[str] = []
    yield names
    for name in names:
        http.delete(f"/v1/models/tester/{name}")


def test_a_folder_is_sent_inspected_and_ready(page, gone, server):
    page.goto("/ui/models")
    page.get_by_role("link", name="Upload", exact=True).click()
    check_light_and_dark(page)
    page.locator("#folder").set_input_files(EXAMPLES / "pirate")
    expect(page.locator("#chosen")).to_contain_text("adapter_model.safetensors")
    expect(page.get_by_label("Name")).to_have_value("pirate")
    page.get_by_label("Name").fill("from-a-folder")
    gone.append("from-a-folder")
    page.get_by_label("Description").fill("Ahoy, says everyone")
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/ui/jobs/*")
    expect(page.locator("h1 + .badge")).to_have_text("ready")
    expect(page.locator("ol.steps")).to_contain_text("inspecting")
    check_light_and_dark(page)
    page.get_by_role("link", name="Open the adapter").click()
    expect(page.get_by_role("main")).to_contain_text("Ahoy, says everyone")


def test_an_archive_is_dropped(page, gone, server, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", EXAMPLES / "shout")
    page.goto("/ui/upload?name=dropped")
    page.locator("#files").set_input_files(archive)
    file = page.evaluate_handle(
        "() => { const data = new DataTransfer(); data.items.add(document.getElementById('files').files[0]);"
        " return data; }"
    )
    page.locator("#files").set_input_files([])
    page.locator("#dropzone").dispatch_event("drop", {"dataTransfer": file})
    expect(page.locator("#chosen")).to_contain_text("packed.zip")
    gone.append("dropped")
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/ui/jobs/*")
    expect(page.locator("h1 + .badge")).to_have_text("ready")


def test_a_refused_adapter_says_which_check_failed_and_what_to_change(page, server, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(EXAMPLES / "pirate", folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 4}))
    page.goto("/ui/upload")
    page.locator("#folder").set_input_files(folder)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/ui/jobs/*")
    expect(page.locator("h1 + .badge")).to_have_text("refused")
    expect(page.get_by_role("alert")).to_contain_text("adapter_config.json says 4")
    expect(page.get_by_role("alert")).to_contain_text("upload the config and the weights of the same training")
    expect(page.locator("ol.steps li.failed")).to_have_count(1)
    check_light_and_dark(page)
    page.get_by_role("link", name="Upload again").click()
    expect(page.get_by_label("Name")).to_have_value("broken")


def test_a_name_that_is_taken_is_refused_beside_the_name(page, dock):
    expect_status(page, 400)
    page.goto("/ui/upload")
    page.get_by_role("button", name="Upload").click()
    page.get_by_label("Name").fill("pirate")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator('[data-field="files"]')).to_contain_text("Choose a folder or an archive first.")
    page.locator("#folder").set_input_files(EXAMPLES / "pirate")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator('[data-field="model_name"]')).to_contain_text("is already used")
    check_light_and_dark(page)


def test_what_lies_elsewhere_is_fetched_and_attached_also_without_scripts(browser, server, dock, gone, http):
    with visitor(browser, server.url, java_script_enabled=False) as page:
        expect_status(page, 422)
        page.goto("/ui/upload")
        page.get_by_label("Source").fill("no source at all")
        page.get_by_label("Name").fill("fetched")
        page.get_by_label("Hugging Face token").fill("hf_secret")
        page.get_by_role("button", name="Upload").click()
        expect(page.get_by_role("alert")).to_contain_text("is not a valid source")
        assert "hf_secret" not in page.content()
        page.get_by_label("Source").fill(f"file://{EXAMPLES}")
        page.get_by_label("Folder in it").fill("pirate")
        page.get_by_label("Attach to endpoint when ready").select_option(dock["id"])
        gone.append("fetched")
        page.get_by_role("button", name="Upload").click()
        page.wait_for_url("**/ui/jobs/*")
        while not page.get_by_text("attached to").count():
            page.reload()
        expect(page.locator("h1 + .badge")).to_have_text("ready")
    body = {"model_id": f"{dock['name']}:tester/fetched"}
    assert http.request("DELETE", f"/v1/endpoints/{dock['id']}/adapters", json=body).status_code == 200


def test_a_folder_is_dropped(page, gone, server):
    page.goto("/ui/upload?name=dragged")
    box = page.locator("#dropzone").bounding_box()
    data = {"items": [], "files": [str(EXAMPLES / "pirate")], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        place = {"x": box["x"] + 20, "y": box["y"] + 20}
        devtools.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
    expect(page.locator("#chosen")).to_contain_text("adapter_model.safetensors")
    gone.append("dragged")
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/ui/jobs/*")
    expect(page.locator("h1 + .badge")).to_have_text("ready")


def test_several_adapters_are_sent_at_once_and_each_has_its_result(page, gone, http, dock, tmp_path):
    many = tmp_path / "tones"
    for name in ("one", "two", "broken"):
        shutil.copytree(EXAMPLES / "pirate", many / name)
    config = json.loads((many / "broken" / "adapter_config.json").read_text())
    (many / "broken" / "adapter_config.json").write_text(json.dumps({**config, "r": 4}))
    shutil.copytree(EXAMPLES / "json", many / "one" / "checkpoint-7")  # belongs to the first
    (many / "notes.txt").write_text("no part of any")
    page.goto("/ui/upload")
    page.locator("#folder").set_input_files(many)
    expect(page.locator("#chosen")).to_contain_text("3 adapters")
    expect(page.locator("#chosen")).to_contain_text("1 other file belongs to none")
    rows = page.locator(".many-row")
    expect(rows).to_have_count(3)
    expect(page.locator("#model_name")).to_be_hidden()
    page.get_by_label("Name of two").fill("second")
    page.get_by_label("Attach to endpoint when ready").select_option(dock["id"])
    check_light_and_dark(page)
    gone.extend(["one", "second"])
    page.get_by_role("button", name="Upload 3 adapters").click()
    expect(page.locator("[data-summary]")).to_have_text("3 adapters, 2 ready, 1 refused", timeout=60_000)
    refused = rows.filter(has=page.locator(".badge.bad"))
    expect(refused).to_have_count(1)
    expect(refused).to_contain_text("adapter_config.json says 4")
    expect(page.get_by_role("button", name="Try the other 1 again")).to_be_enabled()
    check_light_and_dark(page)
    names = [entry["adapter_name"] for entry in http.get(f"/v1/endpoints/{dock['id']}/adapters").json()["data"]]
    assert {"tester/one", "tester/second"} <= set(names)
    for name in ("one", "second"):
        body = {"model_id": f"{dock['name']}:tester/{name}"}
        assert http.request("DELETE", f"/v1/endpoints/{dock['id']}/adapters", json=body).status_code == 200


def test_archives_are_adapters_each_and_only_endpoints_of_their_base_are_offered(page, dock, tmp_path):
    archives = [shutil.make_archive(str(tmp_path / name), "zip", EXAMPLES / "shout") for name in ("first", "other")]
    page.goto("/ui/upload")
    page.locator("#files").set_input_files(archives)
    expect(page.locator(".many-row")).to_have_count(2)
    page.get_by_role("button", name="Leave out other").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("first")
    expect(page.locator("#lora_model option:not([disabled])")).to_have_count(2)
    page.get_by_label("Base model").last.fill("Org/Other")
    expect(page.locator("#lora_model option:not([disabled])")).to_have_count(1)
