"""Short prompts on models of several sizes: the base model, one adapter, and eight of rank 16 mixed."""

from dataclasses import replace

from benchmarks.engines import Run, available
from benchmarks.peers.base import Setting
from benchmarks.sizes.widths import Job
from benchmarks.workload import Case

CASES = (
    Case("none", 0, 1, 64),
    Case("none", 0, 32, 32),
    Case("8xr16", 1, 1, 64),
    Case("8xr16", 8, 8, 32),
    Case("8xr16", 8, 32, 32),
)
_SEQUENCES, _CONTEXT = 32, 320


async def add_sizes(job: Job) -> bool:
    """False when the time was up before all was measured."""
    whole = True
    plan = job.plan
    for model in plan.models:
        peers = plan.peers_of(Setting(model, _SEQUENCES, _CONTEXT))
        cases = [replace(case, model=model.name) for case in CASES]
        cases = [case for case in cases if any(part in case.name for part in plan.cases)]
        run = Run(
            job.records,
            job.budget,
            plan.repetitions,
            everything=True,
            memory_gib=plan.memory_gib,
            model=model,
            patience=plan.patience,
        )
        whole = await run.cases(available(peers, job.records), cases) and whole
    return whole
