"""Replicas as processes of this machine, each in a session of its own so that it outlives the server."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from loradock.checkpoints.memory_plan import MemoryPlan
from loradock.replicas.endings import KillCount, fate_of, reason_of
from loradock.replicas.launcher import Ending, ProcessUse, ReplicaSpec
from loradock.replicas.log import last_words, log_part, log_tail
from loradock.replicas.memory import plan_arguments, read_plan, write_plan
from loradock.replicas.vllm import GPUS_ENV, VllmSetup, choose_gpus, vllm_command, vllm_environment
from loradock.types.enums import EngineKind
from loradock.types.extras import require_engine
from loradock.types.protocol import ENGINE_SECRET_ENV

ENGINE_COMMAND = (sys.executable, "-m", "loradock.engine")
_ANNOUNCE = "announce.json"
_LOG = "engine.log"
# File times and process start times come from different clocks of the kernel.
_CLOCK_SLACK_S = 2.0
_CHILDREN_S = 10.0
_STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


class ProcessInstance:
    def __init__(self, process: psutil.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._exit_code: int | None = None
        self._kills = KillCount()
        self._resident = 0
        self._children: list[psutil.Process] = []
        self._counted_at = -_CHILDREN_S

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def plan(self) -> MemoryPlan | None:
        return read_plan(self._folder)

    def alive(self) -> bool:
        try:
            # A zombie ended; `wait` reaps it where it is our child, so that no entry is left behind.
            if self._process.status() != psutil.STATUS_ZOMBIE:
                return self._process.is_running()
            self._exit_code = self._process.wait(timeout=0)
        except psutil.TimeoutExpired:
            # Of our child only the first thread has ended: when the others have, we are told how. What is somebody
            # else's is a zombie for as long as they like.
            with suppress(psutil.NoSuchProcess):
                return self._process.ppid() == os.getpid()
        except psutil.NoSuchProcess:
            pass
        return False

    def use(self) -> ProcessUse:
        uses = []
        with suppress(psutil.NoSuchProcess):
            for process in (self._process, *self._descendants()):
                with suppress(psutil.NoSuchProcess):
                    uses.append(_use_of(process))
        resident = sum(use.resident for use in uses)
        if not resident:  # a zombie: what it had is what it was last seen with
            return ProcessUse()
        self._kills.note()
        self._resident = resident
        private, processor = sum(use.private for use in uses), sum(use.processor for use in uses)
        return ProcessUse(self._resident, private, processor, uses[0].stopped)

    def ending(self) -> Ending:
        reason = reason_of(self._exit_code, self._resident, last_words(self._folder / _LOG))
        return Ending(reason, fate_of(self._exit_code, starved=self._kills.moved()))

    def _descendants(self) -> list[psutil.Process]:
        """Return its descendants. To find them, all processes of the machine have to be looked at: now and then will
        do."""
        if time.monotonic() - self._counted_at >= _CHILDREN_S:
            self._children = self._process.children(recursive=True)
            self._counted_at = time.monotonic()
        return self._children

    def address(self) -> str | None:
        announced = _announcement(self._folder)
        if announced.get("pid") != self.pid or "port" not in announced:
            return None
        return f"http://127.0.0.1:{announced['port']}"

    def terminate(self, grace: float) -> None:
        with suppress(psutil.NoSuchProcess):
            self._process.terminate()
            try:
                self._process.wait(timeout=grace)
            except psutil.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=grace)
        _sweep(self.pid)


class ProcessLauncher:
    """`root` holds one run folder per replica: `<id>/engine.log` and `<id>/announce.json`.

    A run folder's path stands in its process's command line and ids are never used twice: that is what a process
    is recognised by, so that a reused pid is never taken for a replica. `engine_arguments`: the operator's own.
    """

    def __init__(
        self,
        root: Path,
        command: Sequence[str] = ENGINE_COMMAND,
        engine_arguments: Sequence[str] = (),
        vllm: VllmSetup | None = None,
    ) -> None:
        self._root = root.resolve()
        self._command = tuple(command)
        self._engine_arguments = tuple(engine_arguments)
        self._vllm = vllm or VllmSetup()
        self._choosing = threading.Lock()

    def launch(self, spec: ReplicaSpec) -> ProcessInstance:
        """Raises BadRequest when this engine cannot be started here, or its GPUs are taken."""
        with self._choosing:  # of GPUs, until the process that takes them can be seen
            return self._launch(spec)

    def _launch(self, spec: ReplicaSpec) -> ProcessInstance:
        folder = self._root / spec.id
        command, environment = self._how(spec, folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_plan(folder, spec.memory)
        with (folder / _LOG).open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        process = psutil.Process(child.pid)
        child.returncode = 0  # psutil waits for it from here on; Popen would warn that nobody does
        _await_command_line(process)
        return ProcessInstance(process, folder)

    def _how(self, spec: ReplicaSpec, folder: Path) -> tuple[list[str], dict[str, str]]:
        if spec.engine is EngineKind.VLLM:
            gpus = choose_gpus(spec, self._gpus_taken()) if spec.gpus else ()
            return vllm_command(self._vllm, spec, folder / _ANNOUNCE), vllm_environment(spec, gpus)
        if self._command == ENGINE_COMMAND:
            require_engine()
        # Threads that spin while they wait for each other would take the cores from the replicas beside them.
        waiting = {"OMP_WAIT_POLICY": "PASSIVE"} if spec.shares_cpu else {}
        planned = plan_arguments(spec.memory, self._engine_arguments)
        command = [*self._command, *_arguments(spec, folder), *planned, *self._engine_arguments]
        return command, {**waiting, **os.environ, ENGINE_SECRET_ENV: spec.secret}

    def _gpus_taken(self) -> set[int]:
        """Return the GPUs taken, as the environments of the replicas that run say."""
        taken: set[int] = set()
        for process, _ in self._processes():
            with suppress(psutil.Error):
                taken.update(int(number) for number in process.environ().get(GPUS_ENV, "").split(",") if number)
        return taken

    def find(self, replica_id: str) -> ProcessInstance | None:
        folder = self._root / replica_id
        process = _announced_process(folder) or next((p for p, owner in self._processes() if owner == folder), None)
        return ProcessInstance(process, folder) if process else None

    def running(self) -> set[str]:
        return {folder.name for _, folder in self._processes()}

    def remains(self) -> set[str]:
        return {folder.name for folder in self._root.iterdir()} if self._root.is_dir() else set()

    def log_tail(self, replica_id: str, lines: int) -> str:
        return log_tail(self._root / replica_id / _LOG, lines)

    def log_part(self, replica_id: str, lines: int | None, offset: int) -> tuple[str, int]:
        return log_part(self._root / replica_id / _LOG, lines, offset)

    def discard(self, replica_id: str) -> None:
        self._sweep_after(replica_id)
        shutil.rmtree(self._root / replica_id, ignore_errors=True)

    def set_aside(self, replica_id: str) -> None:
        """Move its folder to the trash beside `root`."""
        self._sweep_after(replica_id)
        kept = self._root.parent / "trash" / replica_id
        with suppress(OSError):
            kept.parent.mkdir(exist_ok=True)
            (self._root / replica_id).rename(kept)
            os.utime(kept)
        self.discard(replica_id)

    def _sweep_after(self, replica_id: str) -> None:
        if pid := _announcement(self._root / replica_id).get("pid"):
            _sweep(pid)

    def _processes(self) -> Iterator[tuple[psutil.Process, Path]]:
        """Yield every process that runs for this root, with its run folder; also one killed before it could
        announce."""
        for process in psutil.process_iter():
            folder = _run_folder(process)
            if folder is not None and folder.parent == self._root:
                yield process, folder


def _use_of(process: psutil.Process) -> ProcessUse:
    with process.oneshot():
        memory, times = process.memory_info(), process.cpu_times()
        private = memory.rss - getattr(memory, "shared", 0)
        return ProcessUse(memory.rss, private, times.user + times.system, process.status() in _STOPPED)


def _await_command_line(process: psutil.Process) -> None:
    """Wait for the command line, by which replicas are found. The kernel closes the pipe that Popen waits for a moment
    before it shows it."""
    with suppress(psutil.Error):
        while not process.cmdline():
            time.sleep(0.001)


def _arguments(spec: ReplicaSpec, folder: Path) -> list[str]:
    arguments = ["--model", str(spec.model), "--served-model-name", *spec.served_names]
    arguments += ["--host", "127.0.0.1", "--port", "0", "--announce", str(folder / _ANNOUNCE)]
    if spec.lora_enabled:
        arguments += ["--max-loras", str(spec.max_loras), "--max-cpu-loras", str(spec.max_cpu_loras)]
        arguments += ["--max-lora-rank", str(spec.max_lora_rank)]
    else:
        arguments += ["--disable-lora"]
    if spec.threads:
        arguments += ["--threads", str(spec.threads)]
    if spec.quantization:
        arguments += ["--quantization", spec.quantization.value]
    return arguments


def _sweep(leader: int) -> None:
    """End what a replica's process has left behind: vLLM computes in processes of its own, which outlive a kill.

    They are known by their session. Its number is not given to another process as long as they live, so that if
    there is a process of that number, it is a stranger and so is its session.
    """
    if psutil.pid_exists(leader):
        return
    for pid in psutil.pids():
        with suppress(OSError):
            if os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)


def _announcement(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / _ANNOUNCE).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _run_folder(process: psutil.Process) -> Path | None:
    try:
        command = process.cmdline()
    except psutil.Error:  # gone, a zombie, or another user's
        return None
    if "--announce" not in command[:-1]:
        return None
    announce = Path(command[command.index("--announce") + 1])
    return announce.parent if announce.name == _ANNOUNCE else None


def _announced_process(folder: Path) -> psutil.Process | None:
    try:
        process = psutil.Process(int(_announcement(folder)["pid"]))
        older = process.create_time() <= (folder / _ANNOUNCE).stat().st_mtime + _CLOCK_SLACK_S
    except (KeyError, ValueError, OSError, psutil.Error):
        return None
    return process if older and _run_folder(process) == folder else None
