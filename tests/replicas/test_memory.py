"""The plan of a replica's memory: what it is told, and what the next server finds."""

import sys
from pathlib import Path

import pytest

from loradock.checkpoints.memory_plan import MemoryPlan
from loradock.replicas.memory import plan_arguments, plan_of
from loradock.replicas.process import ProcessLauncher
from loradock.types.enums import EngineKind, Quantization
from tests.engine.tiny import SMOLLM2
from tests.replicas.conftest import spec

GIB = 2**30
PLAN = MemoryPlan(weights=GIB, cache=3 * GIB // 2, adapters=GIB // 4, program=GIB // 2, context=4096)


def test_the_engine_is_told_what_was_planned_except_what_the_operator_says():
    told = ["--kv-cache-gib", "1.5", "--lora-ram-gib", "0.25", "--max-model-len", "4096"]
    assert list(plan_arguments(PLAN, ())) == told
    assert list(plan_arguments(PLAN, ("--kv-cache-gib=1",))) == told[2:]
    assert list(plan_arguments(PLAN, ("--max-model-len", "512", "--dtype", "float32"))) == told[:4]
    assert list(plan_arguments(None, ())) == []


def test_the_operators_flags_are_part_of_the_plan():
    def plan(*arguments, **changed):
        return plan_of(spec(SMOLLM2, **changed), arguments, 22 * GIB)

    assert plan("--kv-cache-gib", "1").cache == GIB
    assert plan("--lora-ram-gib=0.5").adapters == GIB // 2
    assert plan("--dtype", "float32").weights == 2 * plan().weights
    assert plan(quantization=Quantization.INT4).weights < plan().weights / 1.5
    assert plan(lora_enabled=False).adapters == 0
    assert plan("--device", "cuda") is None
    assert plan(engine=EngineKind.VLLM, gpus=1) is None
    assert plan(engine=EngineKind.VLLM).cache == 2 * GIB


def test_a_model_that_nothing_can_read_has_no_plan(tmp_path):
    assert plan_of(spec(tmp_path), (), GIB) is None


@pytest.mark.parametrize("plan", [PLAN, None])
def test_the_next_server_finds_the_plan(tmp_path, plan):
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    instance = ProcessLauncher(tmp_path, command).launch(spec(Path(tmp_path), memory=plan))
    try:
        assert ProcessLauncher(tmp_path, command).find("rep_one").plan == plan
    finally:
        instance.terminate(0.1)
