import pytest

from loradock.endpoints.hardware import check_hardware, check_zone, machine_hardware
from loradock.types.errors import BadRequest

SMI = "#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559'\necho 'NVIDIA H100 80GB HBM3, 81559'\n"


@pytest.fixture
def nvidia(tmp_path, monkeypatch):
    """A machine whose nvidia-smi reports two equal GPUs."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(SMI)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    machine_hardware.cache_clear()
    yield
    machine_hardware.cache_clear()


def cpu_id() -> str:
    return next(hardware.id for hardware in machine_hardware() if hardware.kind == "cpu")


@pytest.mark.parametrize("wanted", ["", "cpu"])
def test_the_default_is_the_cpu(wanted):
    assert check_hardware(wanted) == cpu_id()
    assert check_hardware(cpu_id()) == cpu_id()


def test_gpus_are_listed_once_per_kind_and_refused_with_the_reason(nvidia):
    gpu = machine_hardware()[0]
    assert (gpu.id, gpu.memory_gib, gpu.usable) == ("1x_nvidia_h100_80gb_hbm3", 80, False)
    assert len([hardware for hardware in machine_hardware() if hardware.kind != "cpu"]) == 1
    with pytest.raises(BadRequest, match=r"invalid hardware provided: .* is a GPU"):
        check_hardware(gpu.id)


def test_unknown_hardware_names_what_there_is():
    with pytest.raises(BadRequest, match=rf"invalid hardware provided: 'h900' is not here; give .*{cpu_id()}"):
        check_hardware("h900")


def test_zones():
    assert check_zone(None) is check_zone("") is None
    assert check_zone("local") == "local"
    with pytest.raises(BadRequest, match="'mars'"):
        check_zone("mars")
