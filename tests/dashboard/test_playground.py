"""The playground in a browser: several adapters asked at once, their answers side by side, and the code for it."""

import pytest

from tests.dashboard.conftest import check_light_and_dark, expect_status, visitor
from tests.servers import create_endpoint

ADAPTERS = ("pirate", "json", "shout")


@pytest.fixture
def docked(http, dock):
    """The endpoint with all three adapters; as it was afterwards."""
    for name in ADAPTERS:
        body = {"model_id": f"{dock['name']}:tester/{name}"}
        assert http.post(f"/v1/endpoints/{dock['id']}/adapters", json=body).status_code == 200
    yield dock
    for name in ADAPTERS:
        body = {"model_id": f"{dock['name']}:tester/{name}"}
        assert http.request("DELETE", f"/v1/endpoints/{dock['id']}/adapters", json=body).status_code == 200


def _answer(page, name):
    return page.get_by_role("region", name=name, exact=True)


def test_base_and_adapters_answer_side_by_side_each_in_its_manner(page, docked):
    page.goto(f"/ui/playground?endpoint={docked['id']}")
    check_light_and_dark(page)
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Max tokens").fill("48")
    page.get_by_role("textbox", name="Prompt", exact=True).fill("Tell me about rain.")
    page.get_by_role("textbox", name="Prompt", exact=True).press("Control+Enter")
    page.get_by_text("4 answers are complete").wait_for()
    said = {
        name: _answer(page, name).locator(".answer-text").inner_text()
        for name in ("Base model", "tester/pirate", "tester/json", "tester/shout")
    }
    assert "arr" in said["tester/pirate"].lower()
    assert said["tester/json"].startswith('{"answer"')
    assert said["tester/shout"] == said["tester/shout"].upper()
    assert said["Base model"] not in ("", said["tester/pirate"])
    for name in said:
        figures = _answer(page, name).locator(".figures").inner_text()
        assert "tokens/s" in figures and " ms" in figures and " + " in figures, figures
        _answer(page, name).get_by_text("done").wait_for()
    check_light_and_dark(page)


def test_the_address_carries_the_selection(page, browser, server, docked):
    page.goto(f"/ui/playground?endpoint={docked['id']}")
    page.get_by_label("tester/json").uncheck()
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Seed").blur()
    with visitor(browser, server.url) as other:
        other.goto(page.url)
        assert not other.get_by_label("tester/json").is_checked()
        assert other.get_by_label("tester/pirate").is_checked()
        assert other.get_by_label("Seed").input_value() == "7"


def test_view_code_has_the_right_names(page, server, docked):
    page.goto(f"/ui/playground?endpoint={docked['id']}&model=tester/shout")
    page.get_by_label("System prompt").fill("Say 'please' \"twice\"")
    page.get_by_label("System prompt").blur()
    page.locator(".code-curl").get_by_text("please").wait_for()
    for language, expected in (
        ("curl", f"{server.url}/v1/chat/completions"),
        ("together", "from together import Together"),
        ("openai", "from openai import OpenAI"),
        ("TypeScript", 'from "together-ai"'),
    ):
        page.locator("fieldset.segments").get_by_text(language, exact=True).click()
        (shown,) = [block.inner_text() for block in page.locator("#code pre").all() if block.is_visible()]
        assert expected in shown and '"tester/shout"' in shown and f"{server.url}/v1" in shown
        assert "<your API key>" in shown
        assert "Say 'please' \\\"twice\\\"" in shown.replace("'\\''", "'")
    check_light_and_dark(page)


def test_answers_can_be_stopped(page, docked):
    page.goto(f"/ui/playground?endpoint={docked['id']}&model=tester/pirate&max_tokens=2000")
    page.get_by_role("textbox", name="Prompt", exact=True).fill("Count to a thousand, one number after the other.")
    page.get_by_role("button", name="Send").click()
    _answer(page, "tester/pirate").get_by_text("answering").wait_for()
    page.get_by_role("button", name="Stop").click()
    _answer(page, "tester/pirate").get_by_text("stopped").wait_for()
    assert page.get_by_role("button", name="Send").is_enabled()


def test_an_answer_that_was_cut_says_so_is_copied_and_the_talk_goes_on(page, docked):
    asked = []
    page.on("request", lambda r: asked.append(r.post_data_json) if r.url.endswith("/chat/completions") else None)
    page.goto(
        f"/ui/playground?endpoint={docked['id']}&model=tester/pirate&model=tester/json&max_tokens=4&temperature=0"
    )
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    prompt.fill("Tell me about rain.")
    page.get_by_role("button", name="Send").click()
    _answer(page, "tester/pirate").get_by_text("cut at max tokens").wait_for()
    first = _answer(page, "tester/pirate").locator(".answer-text").inner_text()
    page.get_by_label("Copy the answer of tester/pirate").click()
    page.get_by_text("Copied").wait_for()
    page.locator("#summary").get_by_text("2 answers are complete").wait_for(state="attached")
    page.get_by_label("Max tokens").fill("200")
    prompt.fill("Go on.")
    prompt.press("Control+Enter")
    page.locator("#code .code-curl").get_by_text("Go on.").wait_for(state="attached")
    assert _answer(page, "tester/pirate").locator(".answer-text").count() == 2
    follow = [body for body in asked if body["model"] == "tester/pirate"][1]["messages"]
    said = [("user", "Tell me about rain."), ("assistant", first), ("user", "Go on.")]
    assert [(turn["role"], turn["content"].strip()) for turn in follow] == said
    check_light_and_dark(page)
    page.get_by_role("button", name="New conversation").click()
    assert page.locator(".answer").count() == 0
    assert prompt.input_value() == "Tell me about rain."


def test_on_a_phone_the_choice_of_adapters_stands_above_the_prompt_and_the_code(browser, server, docked):
    with visitor(browser, server.url, viewport={"width": 390, "height": 844}) as page:
        page.goto(f"/ui/playground?endpoint={docked['id']}")
        places = ("#compare", "#prompt", "#temperature", "#code")
        tops = [page.locator(place).bounding_box()["y"] for place in places]
        assert tops == sorted(tops)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        check_light_and_dark(page)


def test_an_error_stands_in_its_own_column(page, http, docked):
    expect_status(page, 404)
    page.goto(f"/ui/playground?endpoint={docked['id']}&model=tester/json&model=tester/pirate&max_tokens=8")
    body = {"model_id": f"{docked['name']}:tester/json"}
    http.request("DELETE", f"/v1/endpoints/{docked['id']}/adapters", json=body)
    page.get_by_role("button", name="Send").click()
    _answer(page, "tester/json").get_by_text("No model named 'tester/json'").wait_for()
    _answer(page, "tester/pirate").get_by_text("done").wait_for()
    check_light_and_dark(page)
    assert http.post(f"/v1/endpoints/{docked['id']}/adapters", json=body).status_code == 200


def test_a_stopped_endpoint_says_what_to_do(page, http, dock):
    endpoint = create_endpoint(http, display_name="Asleep", state="STOPPED")
    page.goto(f"/ui/playground?endpoint={endpoint['id']}")
    page.get_by_text("Asleep is stopped. Start it first.").wait_for()
    check_light_and_dark(page)
    http.delete(f"/v1/endpoints/{endpoint['id']}")


def test_without_an_endpoint_and_without_javascript(browser, server, docked):
    with visitor(browser, server.url, server.make_key("newcomer"), color_scheme="dark") as page:
        page.goto("/ui/playground")
        page.get_by_role("heading", name="No endpoint to talk to").wait_for()
        check_light_and_dark(page)
    with visitor(browser, server.url, java_script_enabled=False) as page:
        page.goto(f"/ui/playground?endpoint={docked['id']}")
        assert "Answers stream into this page by a script" in page.locator("form noscript").inner_text()
        assert '"tester/pirate"' in page.locator(".code-curl").inner_text()
