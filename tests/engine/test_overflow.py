"""A request that does not fit the context, in the words that clients know: seen by the real LiteLLM."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.engine.conftest import SECRET

LITELLM = Path(__file__).parents[2] / ".venvs" / "litellm" / "bin" / "python"
PHRASE = "this model's maximum context length is 512 tokens"
ASK = [{"role": "user", "content": "Hi"}]
# Route, fields, the parameter that is named.
CASES = {
    "too many ids": ("completions", {"prompt": list(range(3, 516))}, "prompt"),
    "no room beside the ids": ("completions", {"prompt": list(range(3, 515))}, "prompt"),
    "long text": ("completions", {"prompt": "word " * 600}, "prompt"),
    "long message": ("chat/completions", {"messages": [{"role": "user", "content": "word " * 512}]}, "messages"),
    "max_tokens": ("chat/completions", {"messages": ASK, "max_tokens": 510}, "max_tokens"),
}
SCRIPT = """
import asyncio, json, sys, litellm

async def main():
    seen, given = {}, json.loads(sys.argv[1])
    for name, (route, fields, _) in given["cases"].items():
        call = litellm.acompletion if route.startswith("chat") else litellm.atext_completion
        for stream in (False, True):
            try:
                prefix = "openai/" if route.startswith("chat") else "text-completion-openai/"
                target = {"model": prefix + "base", "api_base": given["url"], "api_key": given["key"]}
                answer = await call(stream=stream, **target, **fields)
                if stream:
                    async for _ in answer:
                        pass
                seen[f"{name}, {stream}"] = "answered"
            except Exception as error:
                seen[f"{name}, {stream}"] = type(error).__name__
    print(json.dumps(seen))

asyncio.run(main())
"""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_the_error_begins_with_the_phrase_and_names_the_parameter(http, case, stream):
    route, fields, param = CASES[case]
    answer = http.post(f"/v1/{route}", json={"model": "base", "stream": stream, **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", param)
    assert error["message"].startswith(PHRASE)


def test_litellm_knows_it_as_a_full_context(engine, tmp_path):
    given = json.dumps({"url": f"{engine.url}/v1", "key": SECRET, "cases": CASES})
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    ran = subprocess.run(
        [str(LITELLM), "-c", SCRIPT, given], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout.strip().splitlines()[-1])
    assert len(seen) == 2 * len(CASES)
    assert set(seen.values()) == {"ContextWindowExceededError"}, seen
