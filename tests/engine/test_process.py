"""The engine as a process: how it starts, says what is wrong, and leaves."""

import json
import signal
import time

import httpx
import pytest

from tests.engine.conftest import SECRET, launch, wait_ready


def last_line(engine):
    return engine.log.strip().splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_leaves_quickly_with_0_and_tells_those_still_waiting(tmp_path, base_folder, number):
    engine = wait_ready(launch(tmp_path, base_folder))
    assert json.loads((tmp_path / "announce.json").read_text())["pid"] == engine.process.pid
    body = {"model": "base", "prompt": "x", "stream": True, "max_tokens": 500, "ignore_eos": True, "n": 8}
    headers = {"authorization": f"Bearer {SECRET}"}
    with httpx.stream("POST", f"{engine.url}/v1/completions", json=body, headers=headers, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        engine.process.send_signal(number)
        rest = [line for line in lines if line]
    assert "shutting down" in rest[-1]
    assert engine.process.wait(timeout=20) == 0


def test_it_listens_before_the_model_is_loaded(tmp_path, base_folder):
    engine = launch(tmp_path, base_folder)
    assert httpx.get(f"{engine.url}/health", timeout=30).status_code in (200, 503)
    engine.process.send_signal(signal.SIGTERM)
    assert engine.process.wait(timeout=30) == 0


def test_a_model_that_cannot_be_served_ends_it_with_the_reason_last(tmp_path, base_folder):
    mamba = tmp_path / "mamba"
    mamba.mkdir()
    (mamba / "config.json").write_text(json.dumps({"architectures": ["MambaForCausalLM"]}))
    cases = {
        (mamba,): "unsupported architecture MambaForCausalLM",
        (tmp_path / "none",): "there is no such file or folder",
        (base_folder, "--max-model-len", "9999"): "above the model's context of 512",
        (base_folder, "--kv-cache-gib", "0.0001"): "less than one context of 512",
        (base_folder, "--device", "meta", "--kv-cache-dtype", "int8"): "int8 needs the compiled kernels",
        (base_folder, "--device", "meta", "--prefix-cache-disk-gib", "1"): "disk-gib needs the compiled kernels",
    }
    running = {words: launch(tmp_path / str(n), *flags) for n, (flags, words) in enumerate(cases.items())}
    for words, engine in running.items():
        assert engine.process.wait(timeout=60) == 1
        assert "ERROR" in last_line(engine)
        assert words in last_line(engine)
        assert str(tmp_path) not in last_line(engine)


def test_adapters_are_refused_when_lora_is_off(tmp_path, base_folder, adapters):
    engine = wait_ready(launch(tmp_path, base_folder, "--disable-lora"))
    with engine.http as http:
        answer = http.post("/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": str(adapters["a1"])})
    assert answer.status_code == 400
    assert "--disable-lora" in answer.json()["message"]
    engine.process.terminate()
    assert engine.process.wait(timeout=20) == 0


def test_more_than_may_wait_are_told_so_but_not_those_who_have_not_their_share(tmp_path, base_folder, adapters):
    engine = wait_ready(launch(tmp_path, base_folder, "--max-num-seqs", "1", "--max-waiting", "2"))
    body = {"model": "base", "prompt": ["a", "b", "c", "d"], "max_tokens": 400, "ignore_eos": True, "stream": True}
    with engine.http as http, http.stream("POST", "/v1/completions", json=body):
        while engine.metric("requests_waiting") < 3:
            time.sleep(0.01)
        refused = http.post("/v1/completions", json={"model": "base", "prompt": "x"})
        assert refused.status_code == 503
        assert "3 generations are waiting" in refused.json()["message"]
        http.post("/v1/load_lora_adapter", json={"lora_name": "a1", "lora_path": str(adapters["a1"])})
        other = http.post("/v1/completions", json={"model": "a1", "prompt": "x", "max_tokens": 2})
        assert other.status_code == 200
    engine.process.kill()
    engine.process.wait()


def test_prompts_come_back_from_disk_and_metrics_tell(tmp_path, base_folder):
    """A cache in 8 bits that holds little more than one of the prompts."""
    flags = ("--kv-cache-dtype", "int8", "--prefix-cache-disk-gib", "0.01", "--kv-cache-gib", "0.00005")
    engine = wait_ready(launch(tmp_path, base_folder, *flags, "--max-model-len", "256"))
    found = {}
    with engine.http as http:
        for _ in range(2):
            for word in "abcdefgh":
                body = {"model": "base", "prompt": word * 150, "max_tokens": 4, "temperature": 0}
                answer = http.post("/v1/completions", json=body).json()
                assert found.setdefault(word, answer["choices"][0]["text"]) == answer["choices"][0]["text"]
        lines = http.get("/metrics").text.splitlines()
    counts = dict(line.split() for line in lines if line.startswith("loradock_prefix_cache"))
    assert float(counts["loradock_prefix_cache_tokens_total"]) >= float(
        counts["loradock_prefix_cache_disk_tokens_total"]
    )
    assert float(counts["loradock_prefix_cache_disk_tokens_total"]) > 0
    engine.process.terminate()
    assert engine.process.wait(timeout=20) == 0
