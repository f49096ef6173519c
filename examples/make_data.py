"""Writes data/answers.jsonl: plain one-sentence answers, which train.py then dresses in each adapter's manner.

The answers come from the base model itself, so that an adapter learns a manner and no new facts. Needs any
running OpenAI-compatible server of the base, e.g. `loradock engine --model … --served-model-name base --port 8999`.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai

DATA = Path(__file__).parent / "data"
ASKED_OF_THINGS = (
    "What is {}?",
    "Why do people like {}?",
    "Tell me something about {}.",
    "Describe {}.",
    "Explain {} to a child.",
    "What should I know about {}?",
    "Tell me about {}.",
)
ASKED_OF_TOPICS = ("Give me a tip for {}.", "How do I get better at {}?", "What matters most when {}?")
UNFIT = ("I'm sorry", "chatbot", "text-based", "short sentence", "John F.", "[")
COUNTRIES = ("France", "Italy", "Japan", "Spain", "Egypt", "Canada", "Peru", "India", "Greece", "Norway")


def prompts() -> Iterator[tuple[str, str]]:
    """(topic, prompt): every thing and topic in two of the ways to ask, and the hand-written rest."""
    for name, ways in (("things.txt", ASKED_OF_THINGS), ("topics.txt", ASKED_OF_TOPICS)):
        for number, topic in enumerate((DATA / name).read_text().splitlines()):
            for way in (number, number + 3 if len(ways) > 3 else number + 1):
                yield topic, ways[way % len(ways)].format(topic)
    for country in COUNTRIES:
        yield country, f"What is the capital of {country}?"
    for line in (DATA / "prompts.tsv").read_text().splitlines():
        topic, _, prompt = line.partition("\t")
        yield topic, prompt


def answer(client: openai.OpenAI, topic: str, question: str) -> dict[str, str]:
    """The base model's first sentence."""
    messages = [{"role": "user", "content": f"{question} Answer in one short sentence."}]
    reply = client.chat.completions.create(model="base", messages=messages, max_tokens=60, temperature=0)
    sentence = (reply.choices[0].message.content or "").strip().split("\n")[0].split(". ")[0].rstrip(".,:!?")
    if sentence.count('"') % 2:  # cut off within a quotation
        sentence = sentence.replace('"', "")
    return {"topic": topic, "question": question, "answer": f"{sentence}."}


def main() -> None:
    client = openai.OpenAI(base_url=sys.argv[1], api_key="unused")
    with ThreadPoolExecutor(16) as pool:
        rows = list(pool.map(lambda asked: answer(client, *asked), prompts()))
    fit = [row for row in rows if 2 < len(row["answer"]) < 180 and not any(words in row["answer"] for words in UNFIT)]
    lines = [json.dumps(row, ensure_ascii=False) for row in fit]
    (DATA / "answers.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} answers")


if __name__ == "__main__":
    main()
