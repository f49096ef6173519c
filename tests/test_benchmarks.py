"""The parts of the benchmarks whose mistakes would not show in their figures."""

import json
import socket
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import gguf
import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch

import benchmarks
from benchmarks import adapters, room
from benchmarks.client import Answer, Failed, Request, load
from benchmarks.measuring import quantile
from benchmarks.models import checkpoint, formats
from benchmarks.models.shapes import MODELS, SMOLLM2, Model
from benchmarks.own_products import OwnProducts, random_bits
from benchmarks.peers import PEERS
from benchmarks.places import free_port
from benchmarks.records import Records
from benchmarks.sizes import sizes_report
from benchmarks.sizes.contexts import Point, decode_rate
from benchmarks.sizes.contexts import prompts as long_prompts
from benchmarks.sizes.sizes import CASES
from benchmarks.targets import BASE_1, BASE_32, BESIDE_8, EIGHT_32, MANY_32, ONE_1, targets
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


TINY = Model("tiny", "tiny", hidden=64, layers=2, heads=2, kv_heads=1, head=32, feed_forward=96)
Q_PROJ = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def tokenizer(tmp_path):
    """As far as random models need one."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    vocabulary = {"<eos>": 0, "Ġrain": 1, "Ã©": 2}
    facts = {"added_tokens": [{"id": 0}], "model": {"vocab": vocabulary}}
    (folder / "tokenizer.json").write_text(json.dumps(facts))
    (folder / "config.json").write_text('{"vocab_size": 49152}')
    return folder


def test_random_weights_are_always_the_same_and_say_whole_characters_only(tmp_path, tokenizer):
    for name in ("one", "two"):
        checkpoint.write_random(TINY, tmp_path / name, tokenizer)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    found = load_torch(tmp_path / "one" / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == dict(checkpoint.shapes(TINY))
    rows = found["model.embed_tokens.weight"].float().std(dim=1)
    assert rows[1] > 2 * rows[0] and rows[1] > 2 * rows[2]
    own = checkpoint.read(tmp_path / "one" / "model.safetensors")
    assert torch.equal(torch.from_numpy(checkpoint.float32(own[Q_PROJ])), found[Q_PROJ].float())


@pytest.mark.parametrize(("kind", "error"), [("BF16", 0.0), ("Q8_0", 0.002), ("Q4_0", 0.05)])
def test_the_gguf_of_a_random_model_has_its_numbers(tmp_path, tokenizer, monkeypatch, kind, error):
    monkeypatch.setattr(formats, "CACHE", tmp_path)
    checkpoint.write_random(TINY, tmp_path / "random-tiny", tokenizer)
    reader = gguf.GGUFReader(formats.gguf_file(kind, TINY))
    assert reader.fields["llama.embedding_length"].contents() == 64
    found = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    assert len(found) == len(dict(checkpoint.shapes(TINY)))
    given = checkpoint.read(tmp_path / "random-tiny" / "model.safetensors")
    # llama.cpp: the two rotary halves of a head row by row in turn.
    wanted = checkpoint.float32(given[Q_PROJ]).reshape(2, 2, 16, 64).swapaxes(1, 2).reshape(64, 64)
    assert np.abs(found["blk.1.attn_q.weight"] - wanted).max() <= error
    assert (found["output_norm.weight"] == 1).all()


def test_models_have_the_sizes_in_their_names():
    millions = {name: round(model.parameters / 1e6) for name, model in MODELS.items()}
    assert millions == {"135m": 135, "0.5b": 402, "1b": 1074, "3b": 2970}
    assert SMOLLM2.kv_bytes == 23040


def test_prompts_of_a_context_are_the_same_for_every_server_and_begin_unlike():
    point = Point(SMOLLM2, 512, 8)
    texts = long_prompts(point, 0)
    assert texts == long_prompts(point, 0)
    assert len({text[:4] for text in texts}) == 8
    assert long_prompts(point, 1) != texts


def test_the_speed_of_streams_is_that_of_the_span_in_which_all_of_them_ran():
    early = Answer(0.0, [float(moment) for moment in range(1, 21)])
    late = Answer(0.0, [11 + moment / 2 for moment in range(40)])
    assert decode_rate([early, late]) == pytest.approx((9 + 18) / 9)
    with pytest.raises(Failed, match="together for 4 tokens"):
        decode_rate([Answer(0.0, [float(moment) for moment in range(16)]), late])


def test_sizes_are_held_against_llamacpp_of_the_same_width(tmp_path):
    records = Records(
        tmp_path / "sizes.json", dict.fromkeys(("date", "cpu", "cores", "memory_gib", "system", "loradock"), "")
    )
    case = replace(CASES[0], model="1b").name
    for peer, rate in (
        ("engine-int8-plain", 30.0),
        ("llamacpp-q8_0", 20.0),
        ("llamacpp-bf16", 10.0),
        ("openvino-q8_0", 25.0),
    ):
        records.add(kind="load", peer=peer, case=case, model="1b", tokens_per_s=rate)
        records.add(
            kind="replica", peer=peer, model="1b", seconds=1.0, peak_mib=rate, pss_mib=100.0, second_pss_mib=20.0
        )
    records.add(kind="load", peer="engine-plain", case=case, model="1b", tokens_per_s=9.0, pressed=True)
    said = sizes_report(records)
    assert "| Loradock engine, int8, no drafts | 30.0 (1.50 x) |" in said
    assert "| OpenVINO GenAI Q8_0 | 25.0 (1.25 x) |" in said
    assert "| Loradock engine, no drafts | disturbed |" in said
    assert "| llama.cpp Q8_0 | 20.0 |" in said
    assert (
        "| 1B | Loradock engine, int8, no drafts | 1.00 (1.00 x) | 30 (1.50 x) | 100 (1.00 x) | 20 (1.00 x) | 20% |"
        in said
    )


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
    assert next(line for line in lines if "base throughput" in line).endswith("| 0.88 | reached |")
    assert len(lines) == 4  # nothing is said about what was not measured


def test_goals_name_our_fastest_and_the_best_of_the_others(tmp_path):
    records = Records(tmp_path / "peers.json")
    for peer, case, rate in (
        ("loradock", EIGHT_32, 800.0),
        ("loradock-int4", EIGHT_32, 900.0),
        ("loradock-int8", EIGHT_32, 1000.0),
        ("llamacpp-q4_1", EIGHT_32, 100.0),
        ("llamacpp-f16", EIGHT_32, 200.0),
        ("engine", ONE_1, 150.0),
        ("loradock", ONE_1, 140.0),
        ("llamacpp-f16", ONE_1, 100.0),
        ("llamacpp-bf16", ONE_1, 80.0),
        ("llamacpp-q8_0", ONE_1, 400.0),
    ):
        records.add(kind="load", peer=peer, case=case, tokens_per_s=rate)
    said = targets(records)
    assert "Loradock in bf16, times the best llama.cpp (F16) ≥ 8 | 4.0 | not reached" in said
    assert "Loradock's fastest, int8, times the best llama.cpp (F16) ≥ 8 | 5.0 | not reached" in said
    assert "one adapter, engine alone: bf16, times llama.cpp F16 ≥ 1.5 | 1.50 | reached" in said
    assert "one adapter, through the gateway: bf16, times llama.cpp F16 ≥ 1.5 | 1.40 | not reached" in said
    assert "Q8_0" not in said  # no int8 of ours was measured


def test_a_usual_run_asks_every_peer_of_every_central_case_and_ours_of_all():
    asked = {peer.name: {case.name for case in DEFAULT if peer.asked(case)} for peer in PEERS if not peer.extra}
    assert asked["loradock"] == asked["loradock-int8"] == asked["loradock-int4"] == {case.name for case in DEFAULT}
    for name in ("vllm", "llamacpp-bf16"):
        assert asked[name] == {case.name for case in DEFAULT if "beside" not in case.name}
    for name in ("engine", "peft"):
        assert {BASE_1, BASE_32, ONE_1, EIGHT_32, MANY_32} == asked[name]
    for name in ("llamacpp-q4_1", "llamacpp-q8_0", "llamacpp-f16"):
        assert {BASE_1, BASE_32, ONE_1, EIGHT_32} == asked[name]
    for name in ("engine-int8", "engine-int4"):
        assert {BASE_1, ONE_1} == asked[name]


@pytest.mark.parametrize("together", [False, True])
def test_the_roofline_multiplies_with_all_weights(together):
    weights = [random_bits(out, into, seed=out) for out, into in ((96, 64), (32, 32), (64, 64))]
    own = OwnProducts(weights, rows=5, threads=2, together=together)
    own()
    for part in own.parts:
        first, end = part.panels(4)
        wanted = part.rows.x @ checkpoint.float32(weights[-1])[16 * first : 16 * end].T
        np.testing.assert_allclose(part.out[:, : wanted.shape[1]], wanted, atol=1e-2, rtol=1e-2)


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
    # One sequence alone may need no more than one core.
    records.add(kind="load", peer="vllm", case=ONE_1, cpu_share=1.0, tokens_per_s=50.0)
    assert records.values("tokens_per_s", kind="load", peer="vllm", case=ONE_1) == [50.0]
    assert records.values("tokens_per_s", kind="load", peer="vllm", case=EIGHT_32) == [100.0]


def test_quantiles():
    values = [float(value) for value in range(1, 101)]
    assert quantile(values, 0.5) == 50
    assert quantile(values, 0.99) == 99
    assert quantile([3.0], 0.99) == 3


def test_servers_are_up_together_only_as_far_as_the_memory_allows():
    found = room.groups(PEERS, 10.0)
    assert [peer for group in found for peer in group] == list(PEERS)
    assert all(sum(peer.memory_gib for peer in group) <= 10.0 for group in found)
    assert len(found) < len(PEERS)
    assert [peer.name for peer in room.too_large(PEERS, 5.0)] == ["vllm", "vllm-room"]
    assert 0 < room.default_budget() < psutil.virtual_memory().total / 2**30


@pytest.mark.parametrize(("waited", "pressed"), [(5_000, False), (400_000, True)])
def test_a_span_in_which_tasks_waited_for_memory_is_marked(tmp_path, waited, pressed):
    """Of ten seconds; the kernel tells microseconds."""
    file, now = tmp_path / "memory", [100.0]
    file.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=70000\nfull avg10=0.00 total=1\n")
    pressure = room.Pressure(lambda: now[0], file)
    now[0] += 10
    file.write_text(f"some avg10=9.00 avg60=0.00 avg300=0.00 total={70000 + waited}\nfull avg10=0.00 total=9\n")
    assert pressure.pressed() is pressed


def test_measurements_that_were_short_of_memory_do_not_count(tmp_path):
    records = Records(tmp_path / "peers.json")
    for rate, pressed in ((100.0, False), (3.0, True)):
        records.add(kind="load", peer="engine", case="c", tokens_per_s=rate, cpu_share=2.0, pressed=pressed)
    assert records.values("tokens_per_s", kind="load", peer="engine", case="c") == [100.0]
