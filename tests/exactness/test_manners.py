"""The demo's adapters on prompts they were not trained on."""

import re
import subprocess
import sys

from tests.servers import EXAMPLES

TRAINING = ("answers.jsonl", "shouts.tsv")


def test_each_adapter_holds_its_manner_on_held_out_prompts():
    command = [sys.executable, str(EXAMPLES.parent / "check.py")]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert re.findall(r"^(\w+): \d+ of 16$", shown.stdout, re.M) == ["pirate", "json", "shout"]


def test_the_held_out_prompts_are_held_out_and_the_adapters_small():
    data = EXAMPLES.parent / "data"
    training = "".join((data / name).read_text() for name in TRAINING)
    prompts = (data / "held_out.txt").read_text().splitlines()
    assert [prompt for prompt in prompts if f'"{prompt}"' in training or f"{prompt}\t" in training] == []
    for folder in EXAMPLES.iterdir():
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 2_000_000
