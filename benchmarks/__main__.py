"""All measurements, one after the other; goes on where an interrupted run of the same day and commit stopped.

make bench                                          # the usual cases; hours with all sizes
python -m benchmarks engines --full                 # every combination, hours
python -m benchmarks engines --peers loradock vllm --fresh
python -m benchmarks sizes --sizes 1b --widths int8 # Loradock beside llama.cpp, short prompts
LORADOCK_KERNELS=avx2 python -m benchmarks sizes    # with AVX2 kernels on a machine that has AVX-512
python -m benchmarks contexts --sizes 1b --contexts 4096 --patience 600
python -m benchmarks starts --sizes 1b              # start to first token, first packing, memory, a second replica
python -m benchmarks report                         # tables and plots from what was measured
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from benchmarks.attaching import add_attaching
from benchmarks.engines import PATIENCE, Run, available
from benchmarks.gateways import add_gateways
from benchmarks.models import MODELS
from benchmarks.peers import PEERS, Peer
from benchmarks.peers.base import USUAL
from benchmarks.places import RESULTS
from benchmarks.records import Budget, Records
from benchmarks.report import write_report
from benchmarks.room import default_budget
from benchmarks.sizes import Job, Plan, add_contexts, add_sizes, add_starts, size_peers
from benchmarks.sizes.widths import WIDTHS
from benchmarks.workload import DEFAULT, FULL, Case

_ON_SIZES = {"starts": add_starts, "sizes": add_sizes, "contexts": add_contexts}
PARTS = ("gateways", "attach", "engines", *_ON_SIZES, "report")
_NAMES = sorted({peer.name for peer in (*PEERS, *size_peers(USUAL))})


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--full", action="store_true", help="every combination instead of the usual cases")
    parser.add_argument("--fresh", action="store_true", help="measure anew instead of going on")
    parser.add_argument("--peers", nargs="+", choices=_NAMES, metavar="PEER", help=f"only these of {', '.join(_NAMES)}")
    parser.add_argument("--fleets", nargs="+", help="only these sets of adapters: none 8xr8 32xr8 8xmix (32xmix)")
    parser.add_argument("--cases", nargs="+", help="only cases whose name contains one of these")
    parser.add_argument("--sizes", nargs="+", choices=MODELS, default=list(MODELS), help="models of the parts on sizes")
    widths = [width.name for width in WIDTHS]
    parser.add_argument("--widths", nargs="+", choices=widths, default=widths, help="weights of the parts on sizes")
    parser.add_argument("--contexts", nargs="+", type=int, default=[512, 4096, 16384], help="tokens of long prompts")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8], help="at once, with long prompts")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="begin nothing new after that; run again to go on")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds for one measurement")
    parser.add_argument("--memory", type=float, help="GiB for all servers that are up at a time; default: most of it")
    parser.add_argument("--attached", type=int, default=100, help="adapters that are attached in a row")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))} (there are {', '.join(PARTS)})")
    arguments.parts = arguments.parts or PARTS
    return arguments


def _peers(arguments: argparse.Namespace) -> list[Peer]:
    if arguments.peers:
        return [peer for peer in PEERS if peer.name in arguments.peers]
    return [peer for peer in PEERS if arguments.full or not peer.extra]


def _cases(arguments: argparse.Namespace) -> list[Case]:
    cases = FULL if arguments.full else DEFAULT
    fleets = arguments.fleets or {case.fleet for case in cases}
    parts = arguments.cases or [""]
    return [case for case in cases if case.fleet in fleets and any(part in case.name for part in parts)]


def _plan(arguments: argparse.Namespace) -> Plan:
    return Plan(
        sizes=arguments.sizes,
        widths=arguments.widths,
        peers=arguments.peers,
        cases=arguments.cases or [""],
        contexts=arguments.contexts,
        clients=arguments.clients,
        repetitions=arguments.repetitions,
        memory_gib=arguments.memory or default_budget(),
        patience=arguments.patience,
    )


def _records(arguments: argparse.Namespace, name: str) -> Records:
    """Read only for reports, whatever day it is."""
    file = arguments.results / name
    if list(arguments.parts) == ["report"] and file.exists():
        return Records.read(file)
    return Records.open(file, fresh=arguments.fresh)


async def main(arguments: argparse.Namespace) -> None:
    records, on_sizes = _records(arguments, "peers.json"), _records(arguments, "sizes.json")
    budget = Budget(arguments.minutes)
    whole = True
    if "gateways" in arguments.parts and budget.allows():
        await add_gateways(records)
    if "attach" in arguments.parts and budget.allows():
        await add_attaching(records, arguments.attached)
    if "engines" in arguments.parts:
        peers, cases = _peers(arguments), _cases(arguments)
        memory = arguments.memory or default_budget()
        run = Run(records, budget, arguments.repetitions, everything=arguments.full, memory_gib=memory)
        whole = await run.cases(available(peers, records), cases)
    for part, add in _ON_SIZES.items():
        if part in arguments.parts and budget.allows():
            whole = await add(Job(_plan(arguments), on_sizes, budget)) and whole
    if not whole:
        print("The time is up before all was measured; run again to go on.")
    if "report" in arguments.parts:
        write_report(records, on_sizes, arguments.results)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended then, too
    asyncio.run(main(options()))
