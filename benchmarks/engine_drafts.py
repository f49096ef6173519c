"""What drafts are worth to one client: questions that nobody was trained on, with and without, in this process.

    python benchmarks/engine_drafts.py                  # bf16; base model and the example adapters
    python benchmarks/engine_drafts.py --quantization int8

The questions are asked one after the other, each once with and once without drafts, in turns; what earlier answers of
the same round were is known, as on a server.
"""

import argparse
import threading
import time
from pathlib import Path

from loradock.engine.adapters.lora import LoadedAdapter
from loradock.engine.core import SamplingParams, Sequence
from loradock.engine.generation.generation import Generation, TokenSampled
from loradock.engine.models.loading import adapter_reader
from loradock.engine.process.assembly import build_loop
from loradock.engine.process.options import read_options
from loradock.engine.scheduling.drafting import NgramDrafter
from loradock.engine.text.chat import ChatTemplate
from loradock.engine.text.tokenizer import load_tokenizer
from loradock.registry.bases.builtin import builtin_file

EXAMPLES = Path(__file__).parent.parent / "examples"
QUESTIONS = (EXAMPLES / "data" / "held_out.txt").read_text().splitlines()


class Asking:
    """Answers one prompt after the other on the real loop."""

    def __init__(self, options: list[str]) -> None:
        self._done, self._ids = threading.Event(), 0
        self.loop = build_loop(read_options(["--model", str(builtin_file()), *options]), self._deliver, print)
        self.most = self.loop.scheduler.drafter.most
        self._files = files = load_tokenizer(builtin_file(), self.loop.runner.model.architecture)
        found = files.conventions
        self._template = ChatTemplate(found.template() or "", found.bos_token, found.eos_token)
        self.loop.start()
        self.loop.call(self.loop.runner.warm_up).result()

    def ask(self, question: str, adapter: LoadedAdapter | None, temperature: float) -> tuple[list[int], float]:
        """The answer's tokens, and how many seconds it took."""
        text = self._template.render([{"role": "user", "content": question}], [], {})
        prompt = self._files.tokenizer.encode(text, add_special_tokens=False).ids
        self._ids += 1
        params = SamplingParams(max_tokens=150, temperature=temperature, seed=7)
        sequence = Sequence(self._ids, prompt, params, adapter)
        self._done.clear()
        begun = time.perf_counter()
        self.loop.submit([Generation(sequence, lambda event: None, self._files.eos_ids)])
        assert self._done.wait(120)
        return sequence.output, time.perf_counter() - begun

    def _deliver(self, events: list) -> None:
        if any(isinstance(event, TokenSampled) and event.finish for _, event in events):
            self._done.set()


def compare(asking: Asking, adapter: LoadedAdapter | None, temperature: float) -> str:
    """A line of the table."""
    drafters = {False: NgramDrafter(0), True: NgramDrafter(asking.most)}
    seconds, steps, said = {False: 0.0, True: 0.0}, {False: 0, True: 0}, {False: [], True: []}
    for question in QUESTIONS:
        for drafts in (False, True):
            asking.loop.scheduler.drafter = drafters[drafts]
            before = asking.loop.steps
            tokens, took = asking.ask(question, adapter, temperature)
            seconds[drafts] += took
            steps[drafts] += asking.loop.steps - before
            said[drafts].append(tokens)
    assert said[True] == said[False], "drafts changed an answer"
    count, drafter = sum(map(len, said[True])), drafters[True]
    return (
        f"| {count / seconds[False]:.0f} | {count / seconds[True]:.0f} | {seconds[False] / seconds[True]:.2f} x"
        f" | {count / steps[True]:.2f} | {drafter.accepted / max(1, drafter.drafted):.0%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantization", choices=("int8", "int4"))
    arguments = parser.parse_args()
    asking = Asking(["--quantization", arguments.quantization] if arguments.quantization else [])
    model = asking.loop.runner.model
    reader = adapter_reader(model)
    print("| asked | tokens/s without | with drafts | | tokens a step | accepted |\n|---|---|---|---|---|---|")
    for name, temperature in (("", 0.0), ("", 0.7), ("pirate", 0.0), ("json", 0.0), ("shout", 0.0)):
        adapter = reader.read(name, EXAMPLES / "adapters" / name) if name else None
        compare(asking, adapter, temperature)
        who = f"adapter {name}" if name else "base model"
        print(f"| {who}, temperature {temperature:g} {compare(asking, adapter, temperature)}", flush=True)
    asking.loop.stop(10)


if __name__ == "__main__":
    main()
