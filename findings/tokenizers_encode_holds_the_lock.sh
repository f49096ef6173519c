#!/usr/bin/env bash
# tokenizers 0.23.3, Python binding: Tokenizer.encode keeps the interpreter's lock for as long as it takes, so that no
# other thread of the process runs; encode_batch_fast of a single text gives the same ids and gives the lock away.
# Seen: while a long text is encoded another thread stands still for about as long as it takes, or hardly at all.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3 2>/dev/null
cat > "$folder/program.py" <<'PY'
import threading
import time

from tokenizers import Tokenizer, models, pre_tokenizers

letters = {chr(code): code - 97 for code in range(97, 123)}
tokenizer = Tokenizer(models.BPE(letters, []))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
text = "some words that are spelled in letters " * 60_000


def longest_pause(work):
    """(how long the work takes, how long another thread stands still meanwhile), in seconds; and what it gives."""
    done, pauses = threading.Event(), [0.0]

    def tick():
        last = time.perf_counter()
        while not done.is_set():
            time.sleep(0.001)
            now = time.perf_counter()
            pauses.append(now - last)
            last = now

    other = threading.Thread(target=tick)
    other.start()
    begun = time.perf_counter()
    found = work()
    took = time.perf_counter() - begun
    done.set()
    other.join()
    return took, max(pauses), found


alone = longest_pause(lambda: tokenizer.encode(text).ids)
batch = longest_pause(lambda: tokenizer.encode_batch_fast([text])[0].ids)
assert alone[2] == batch[2]
print("encode: another thread stands still for most of it:", alone[1] > 0.5 * alone[0])
print("encode_batch_fast: another thread stands still for most of it:", batch[1] > 0.5 * batch[0])
PY
found=$("$folder/env/bin/python" "$folder/program.py")
echo "$found"
[ "$(echo "$found" | grep -o 'True\|False' | tr '\n' ' ')" = "True False " ]
