"""The parts of the benchmarks whose mistakes would not show in their figures."""

import socket
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

import benchmarks
from benchmarks import adapters
from benchmarks.client import Failed, Request, load
from benchmarks.measuring import quantile
from benchmarks.places import free_port
from benchmarks.records import Records
from benchmarks.targets import BESIDE_8, EIGHT_32, targets
from benchmarks.workload import DEFAULT, FULL, Case, chosen, prompts

MOCK = Path(benchmarks.__file__).parent / "servers" / "mock_engine.py"
CHUNKS = 32


@pytest.fixture
def mock_url():
    port = free_port()
    process = subprocess.Popen([sys.executable, MOCK, "--port", str(port)])
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


async def test_tokens_are_counted_from_the_usage_record(mock_url):
    request = Request("Hello", CHUNKS, {"model": "mock"})
    found = await load(mock_url, {}, [[request, request], [request]])
    assert found.tokens == 3 * CHUNKS
    assert [len(answer.gaps) for answer in found.answers] == [CHUNKS] * 3  # the last event has the reason to stop
    assert all(answer.begun < answer.events[0] <= answer.ended for answer in found.answers)


async def test_an_answer_of_another_length_is_no_measurement(mock_url):
    with pytest.raises(Failed, match="7 were asked for"):
        await load(mock_url, {}, [[Request("Hello", 7, {"model": "mock"})]])


def test_the_gguf_of_an_adapter_has_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(adapters, "CACHE", tmp_path)
    adapter = adapters.made("one", 4, seed=1)
    found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(adapters.write_gguf(adapter)).tensors}
    given = load_file(adapter.folder / "adapter_model.safetensors")
    assert len(found) == len(given)
    stem = "base_model.model.model.layers.7"
    down = given[f"{stem}.mlp.down_proj.lora_B.weight"]
    assert np.array_equal(found["blk.7.ffn_down.weight.lora_b"], down)
    # llama.cpp: the two rotary halves of a head row by row in turn.
    halves = given[f"{stem}.self_attn.q_proj.lora_B.weight"].reshape(9, 2, 32, 4)
    rows = found["blk.7.attn_q.weight.lora_b"].reshape(9, 32, 2, 4)
    assert np.array_equal(rows[:, :, 0], halves[:, 0])
    assert np.array_equal(rows[:, :, 1], halves[:, 1])


def test_no_two_prompts_of_a_case_begin_alike():
    for case in {DEFAULT[0], DEFAULT[-1]}:
        begins = [text[:8] for text in islice(prompts(case, 0), 200)]
        assert len(set(begins)) == len(begins)


def test_uniform_traffic_asks_all_alike_and_zipf_the_first_most():
    five = list(range(5))
    uniform = list(islice(chosen(Case("5xr8", 5, 1, 1), five, 0), 1000))
    zipf = list(islice(chosen(Case("5xr8", 5, 1, 1, choice="zipf"), five, 0), 1000))
    assert [uniform.count(number) for number in five] == [200] * 5
    assert sorted(five, key=zipf.count, reverse=True) == five


def test_every_case_has_a_name_of_its_own():
    for cases in (DEFAULT, FULL):
        assert len({case.name for case in cases}) == len(cases)


def test_goals_are_judged_by_medians(tmp_path):
    records = Records(tmp_path / "peers.json")
    for peer, case, rates in (
        ("loradock", EIGHT_32, (9.0, 900.0, 880.0)),
        ("loradock", BESIDE_8, (1000.0,)),
        ("vllm", EIGHT_32, (100.0,)),
    ):
        for rate in rates:
            records.add(kind="load", peer=peer, case=case, tokens_per_s=rate)
    lines = targets(Records.read(records.file)).splitlines()
    assert next(line for line in lines if "vLLM" in line).endswith("| 8.8 | not reached |")
    assert next(line for line in lines if "share of base" in line).endswith("| 0.88 | reached |")
    assert len(lines) == 4  # nothing is said about what was not measured


def test_a_run_goes_on_only_where_it_began(tmp_path):
    file = tmp_path / "peers.json"
    Records.open(file, fresh=False).add(kind="load", peer="loradock")
    assert len(Records.open(file, fresh=False).rows) == 1
    assert Records.open(file, fresh=True).rows == []
    elsewhere = Records.read(file)
    elsewhere.facts["cpu"] = "another"
    elsewhere.save()
    assert Records.open(file, fresh=False).rows == []


def test_measurements_in_which_others_took_the_cores_do_not_count(tmp_path):
    records = Records(tmp_path / "peers.json")
    for share, rate in ((1.9, 100.0), (1.0, 10.0)):
        records.add(kind="load", peer="vllm", case=EIGHT_32, cpu_share=share, tokens_per_s=rate)
    assert records.values("tokens_per_s", kind="load", peer="vllm", case=EIGHT_32) == [100.0]


def test_quantiles():
    values = [float(value) for value in range(1, 101)]
    assert quantile(values, 0.5) == 50
    assert quantile(values, 0.99) == 99
    assert quantile([3.0], 0.99) == 3
