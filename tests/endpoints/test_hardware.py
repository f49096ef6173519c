import pytest

from loradock.endpoints import hardware
from loradock.endpoints.hardware import check_zone, choose_hardware, gpus_of, machine_hardware
from loradock.machine import share
from loradock.types.enums import EngineKind
from loradock.types.errors import BadRequest
from tests.machine.trees import version_2

SMI = "#!/bin/sh\necho '0, NVIDIA H100 80GB HBM3, 81559'\necho '1, NVIDIA L4, 23034'\n"
SMI += "".join(f"echo '{number}, NVIDIA H100 80GB HBM3, 81559'\n" for number in (2, 3))


@pytest.fixture
def nvidia(tmp_path, monkeypatch):
    """A machine whose nvidia-smi reports three equal GPUs and another one between them."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(SMI)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    machine_hardware.cache_clear()
    yield
    machine_hardware.cache_clear()


def cpu_id() -> str:
    return next(hardware.id for hardware in machine_hardware() if not hardware.devices)


@pytest.mark.parametrize("wanted", ["", "cpu"])
@pytest.mark.parametrize("engine", [None, EngineKind.EMBEDDED])
def test_without_vllm_it_is_the_cpu(wanted, engine, nvidia):
    assert choose_hardware(wanted, engine, vllm=False) == (cpu_id(), EngineKind.EMBEDDED)
    assert choose_hardware(cpu_id(), engine, vllm=False) == (cpu_id(), EngineKind.EMBEDDED)


def test_gpus_are_listed_by_kind_and_number(nvidia):
    gpus = [(h.id, h.memory_gib, h.devices) for h in machine_hardware() if h.devices]
    assert gpus == [
        ("1x_nvidia_h100_80gb_hbm3", 80, (0, 2, 3)),
        ("2x_nvidia_h100_80gb_hbm3", 80, (0, 2, 3)),
        ("1x_nvidia_l4", 22, (1,)),
    ]
    assert gpus_of("2x_nvidia_h100_80gb_hbm3") == (2, (0, 2, 3))
    assert gpus_of(cpu_id()) == (0, ())


@pytest.mark.parametrize(
    ("wanted", "engine", "chosen"),
    [
        ("", None, ("1x_nvidia_h100_80gb_hbm3", EngineKind.VLLM)),
        ("", EngineKind.VLLM, ("1x_nvidia_h100_80gb_hbm3", EngineKind.VLLM)),
        ("2x_nvidia_h100_80gb_hbm3", None, ("2x_nvidia_h100_80gb_hbm3", EngineKind.VLLM)),
        ("", EngineKind.EMBEDDED, ("cpu", EngineKind.EMBEDDED)),
        ("cpu", None, ("cpu", EngineKind.EMBEDDED)),
        ("cpu", EngineKind.VLLM, ("cpu", EngineKind.VLLM)),
    ],
)
def test_where_vllm_can_be_started_it_runs_the_gpus(nvidia, wanted, engine, chosen):
    hardware, runs = choose_hardware(wanted, engine, vllm=True)
    assert ("cpu" if hardware == cpu_id() else hardware, runs) == chosen


@pytest.mark.parametrize(("engine", "vllm"), [(None, False), (EngineKind.EMBEDDED, True)])
def test_a_gpu_that_nothing_can_run_is_refused_with_the_reason(nvidia, engine, vllm):
    with pytest.raises(BadRequest, match=rf"invalid hardware provided: .* is a GPU, which vLLM runs .*{cpu_id()}"):
        choose_hardware("1x_nvidia_l4", engine, vllm=vllm)


def test_unknown_hardware_names_what_there_is():
    with pytest.raises(BadRequest, match=rf"invalid hardware provided: 'h900' is not here; give .*{cpu_id()}"):
        choose_hardware("h900", None, vllm=True)


def test_zones():
    assert check_zone(None) is check_zone("") is None
    assert check_zone("local") == "local"
    with pytest.raises(BadRequest, match="'mars'"):
        check_zone("mars")


def test_the_cpu_is_what_the_control_group_leaves_of_it(monkeypatch, tmp_path):
    root = version_2(tmp_path, "/", {"memory.max": str(768 * 2**20), "memory.current": "0", "cpu.max": "100000 100000"})
    monkeypatch.setattr(hardware, "memory_total", lambda: share.memory_total(root))
    monkeypatch.setattr(hardware, "usable_processors", lambda: share.usable_processors(root))
    machine_hardware.cache_clear()
    try:
        (cpu,) = (found for found in machine_hardware() if not found.devices)
        assert (cpu.id, cpu.memory_gib) == ("1x_cpu_1c_768mb", 0.8)
    finally:
        machine_hardware.cache_clear()
