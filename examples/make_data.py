"""Writes data/answers.jsonl: plain one-sentence answers, which train.py then dresses in each adapter's manner.

The answers come from the base model itself, so that an adapter learns a manner and no new facts. Needs any
running OpenAI-compatible server of the base, e.g. `loradock engine --model … --served-model-name base --port 8999`.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai

DATA = Path(__file__).parent / "data"
THINGS = (DATA / "things.txt").read_text().splitlines()
TOPICS = (DATA / "topics.txt").read_text().splitlines()
COUNTRIES = ["France", "Italy", "Japan", "Spain", "Egypt", "Canada", "Peru", "India", "Greece", "Norway"]
QUESTIONS = [f"What is {thing}?" for thing in THINGS] + [f"Why do people like {thing}?" for thing in THINGS]
QUESTIONS += [f"Tell me something about {thing}." for thing in THINGS]
QUESTIONS += [f"Give me a tip for {topic}." for topic in TOPICS] + [
    f"How do I get better at {topic}?" for topic in TOPICS
]
QUESTIONS += [
    f"{question} the capital of {country}?" for country in COUNTRIES for question in ("What is", "Which city is")
]


def answer(client: openai.OpenAI, question: str) -> dict[str, str]:
    """The base model's first sentence."""
    messages = [{"role": "user", "content": f"{question} Answer in one short sentence."}]
    reply = client.chat.completions.create(model="base", messages=messages, max_tokens=60, temperature=0)
    sentence = (reply.choices[0].message.content or "").strip().split("\n")[0].split(". ")[0].rstrip(".") + "."
    return {"question": question, "answer": sentence}


def main() -> None:
    client = openai.OpenAI(base_url=sys.argv[1], api_key="unused")
    with ThreadPoolExecutor(16) as pool:
        rows = list(pool.map(lambda question: answer(client, question), QUESTIONS))
    lines = [json.dumps(row, ensure_ascii=False) for row in rows if 15 < len(row["answer"]) < 200]
    (DATA / "answers.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} answers")


if __name__ == "__main__":
    main()
