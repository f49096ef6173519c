"""The code that the playground shows is code: it parses, and says what was asked, whatever was typed."""

import ast
import json
import shlex
import shutil
import subprocess

import pytest

from loradock.dashboard.components.call_code import Call, snippets

AWKWARD = 'it\'s "quoted" \\ and\nbroken `$HOME` ${x} </script> ünï😀'
CALL = Call(
    "http://127.0.0.1:8321/v1",
    "tester/pirate",
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": AWKWARD}],
    {"temperature": 0.5, "max_tokens": 16, "seed": 7},
)
CODE = {snippet.id: snippet.text for snippet in snippets(CALL)}


def test_curl_sends_what_was_typed():
    words = shlex.split(CODE["curl"])
    assert words[:3] == ["curl", "-N", "http://127.0.0.1:8321/v1/chat/completions"]
    sent = json.loads(words[words.index("-d") + 1])
    assert sent["messages"] == CALL.messages
    assert (sent["model"], sent["seed"], sent["stream"]) == ("tester/pirate", 7, True)


@pytest.mark.parametrize("package", ["together", "openai"])
def test_python_calls_with_what_was_typed(package):
    create = next(
        node
        for node in ast.walk(ast.parse(CODE[package]))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "create"
    )
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in create.keywords}
    assert given == {"model": CALL.model, "messages": CALL.messages, **CALL.options, "stream": True}


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_typescript_parses(tmp_path):
    file = tmp_path / "call.mjs"
    file.write_text(CODE["typescript"])
    subprocess.run(["node", "--check", str(file)], check=True)
