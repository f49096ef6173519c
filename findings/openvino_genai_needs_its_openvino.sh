#!/usr/bin/env bash
# openvino-genai 2026.4.0.0: what pip installs with it cannot be imported once there is a later patch of openvino.
# Seen: openvino 2026.4.1 beside it, and "libopenvino.so.2640: cannot open shared object file"; with 2026.4.0 it works.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
install() { "$folder/env/bin/pip" install --quiet --disable-pip-version-check "$@" 2>/dev/null; }
import() { "$folder/env/bin/python" -c "import openvino_genai; print('imported')" 2>&1 | tail -1; }
install openvino==2026.4.1 openvino-genai==2026.4.0.0 openvino-tokenizers==2026.4.0.0
"$folder/env/bin/pip" --disable-pip-version-check check
later=$(import || true)
install openvino==2026.4.0
same=$(import)
printf 'with openvino 2026.4.1: %s\nwith openvino 2026.4.0: %s\n' "$later" "$same"
[[ $later == *"libopenvino.so.2640: cannot open"* && $same == imported ]]
