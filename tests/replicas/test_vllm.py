"""vLLM as a replica: the command it is started with, and the real thing beside the embedded engine."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from loradock.replicas.process import ENGINE_COMMAND, ProcessLauncher
from loradock.replicas.vllm import VllmSetup, slots, vllm_command, vllm_environment
from loradock.types.enums import EngineKind, Quantization
from loradock.types.errors import BadRequest
from tests.replicas.conftest import EXAMPLES, SECRET, replica, spec, vllm_launcher
from tests.rig import eventually

PROMPTS = ["What is a computer?", "Tell me about rain.", "How do I bake bread?"]
NAMES = ("pirate", "json", "shout")


def value(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


def test_the_command(tmp_path):
    setup = VllmSetup(Path("/env/bin/python"), ("--dtype", "float32"))
    wanted = spec(tmp_path, engine=EngineKind.VLLM, max_lora_rank=48, max_cpu_loras=200, gpus=2)
    wanted = replace(wanted, quantization=Quantization.INT8)
    command = vllm_command(setup, wanted, tmp_path / "announce.json")
    assert command[0] == "/env/bin/python"
    assert value(command, "--announce") == str(tmp_path / "announce.json")
    assert value(command, "--max-lora-rank") == "64"
    assert value(command, "--max-cpu-loras") == "200"
    assert value(command, "--tensor-parallel-size") == "2"
    assert command[-2:] == ["--dtype", "float32"]
    assert "--quantization" not in command
    assert SECRET not in " ".join(command)
    assert vllm_environment(wanted)["VLLM_API_KEY"] == SECRET


def test_gpus_are_shared_out_and_never_given_twice(tmp_path):
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    python.chmod(0o755)
    launcher = ProcessLauncher(tmp_path / "replicas", vllm=VllmSetup(python))
    pair = {"engine": EngineKind.VLLM, "gpus": 2, "devices": (0, 2, 3, 5, 6)}
    running = [launcher.launch(spec(tmp_path, id=f"rep_{number}", **pair)) for number in range(2)]
    try:
        given = [instance._process.environ()["CUDA_VISIBLE_DEVICES"] for instance in running]
        assert given == ["0,2", "3,5"]
        with pytest.raises(BadRequest, match=r"needs 2 of the 5 GPUs and 1 are free: 2 > 1"):
            launcher.launch(spec(tmp_path, id="rep_2", **pair))
        running[0].terminate(5)
        running.append(launcher.launch(spec(tmp_path, id="rep_3", **pair)))
        assert running[-1]._process.environ()["CUDA_VISIBLE_DEVICES"] == "0,2"
    finally:
        for instance in running:
            instance.terminate(5)


def test_on_a_cpu_it_sees_no_gpu(tmp_path):
    environment = vllm_environment(spec(tmp_path, engine=EngineKind.VLLM))
    assert environment["CUDA_VISIBLE_DEVICES"] == ""


def test_it_has_fewer_slots_than_the_embedded_engine():
    assert slots(EngineKind.EMBEDDED, 32) == 32
    assert slots(EngineKind.VLLM, 32) == 8


def test_without_lora_no_lora_flag_is_given(tmp_path):
    command = vllm_command(VllmSetup(Path("/p")), spec(tmp_path, lora_enabled=False), tmp_path / "announce.json")
    assert "lora" not in " ".join(command[3:]).replace(str(tmp_path), "")


def test_without_vllm_and_for_gguf_it_says_what_to_do(tmp_path):
    with pytest.raises(BadRequest, match="--vllm-python"):
        vllm_command(VllmSetup(), spec(tmp_path), tmp_path / "announce.json")
    with pytest.raises(BadRequest, match="safetensors"):
        vllm_command(VllmSetup(Path("/p")), spec(tmp_path / "a.gguf"), tmp_path / "announce.json")


async def say(client, model: str, prompt: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 24, "temperature": 0}
    answer = json.loads(await client._call("POST", "/v1/chat/completions", body))
    return answer["choices"][0]["message"]["content"]


async def texts(client) -> dict[str, str]:
    """Everything at once, so that the adapters meet in the same batches."""
    for name in NAMES:
        await client.load(f"a/{name}", EXAMPLES / name)
        await client.probe(f"a/{name}")
    asked = [(model, prompt) for prompt in PROMPTS for model in ("base", *(f"a/{name}" for name in NAMES))]
    said = await asyncio.gather(*(say(client, *pair) for pair in asked))
    return {f"{model}|{prompt}": text for (model, prompt), text in zip(asked, said, strict=True)}


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_the_same_adapters_say_the_same_on_both_engines(tmp_path, smollm2):
    embedded = ProcessLauncher(tmp_path / "embedded", (*ENGINE_COMMAND, "--dtype", "float32"))
    async with replica(embedded, spec(smollm2, threads=2), 120) as client:
        ours = await texts(client)
    real = vllm_launcher(tmp_path / "vllm", "--dtype", "float32")
    async with replica(real, spec(smollm2, engine=EngineKind.VLLM), 300) as client:
        theirs = await texts(client)
    assert ours == theirs
    assert len({text.split()[0] for text in ours.values()}) > 2


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_nothing_of_it_outlives_a_kill(tmp_path, smollm2):
    launcher = vllm_launcher(tmp_path / "vllm")
    wanted = spec(smollm2, engine=EngineKind.VLLM)
    async with replica(launcher, wanted, 300):
        instance = launcher.find(wanted.id)
        family = [instance._process, *instance._process.children(recursive=True)]
        assert len(family) > 1
        instance._process.kill()
        await eventually(lambda: not instance.alive())
        instance.terminate(5)
        _, alive = psutil.wait_procs(family[1:], timeout=10)
        assert not alive
        assert launcher.running() == set()
