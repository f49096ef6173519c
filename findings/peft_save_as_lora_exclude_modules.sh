#!/usr/bin/env bash
# peft 0.21.2: save_as_lora of a LoHa with exclude_modules writes a config without them, so that the folder says of a
# module that it is targeted for which it holds no tensors.
# Seen: the LoHa excludes layer 1; the config that is written excludes nothing, targets "v_proj" everywhere, and the
# tensors are of layer 0 only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 2>/dev/null
"$folder/env/bin/pip" install --quiet --disable-pip-version-check peft==0.21.2 transformers==5.24.0 2>/dev/null
cat > "$folder/program.py" <<'PY'
import json
import sys
from pathlib import Path

from peft import LoHaConfig, get_peft_model, save_as_lora
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

sizes = dict(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
config = LoHaConfig(
    r=2, target_modules=["v_proj"], exclude_modules=["model.layers.1.self_attn.v_proj"], task_type="CAUSAL_LM"
)
model = get_peft_model(LlamaForCausalLM(LlamaConfig(**sizes)), config)
save_as_lora(sys.argv[1], model, rank=4)
written = json.loads((Path(sys.argv[1]) / "adapter_config.json").read_text())
with safe_open(Path(sys.argv[1]) / "adapter_model.safetensors", "np") as tensors:
    layers = sorted({key.split(".layers.")[1].split(".")[0] for key in tensors.keys()})
print(f"excluded: {written['exclude_modules']}, targeted: {sorted(written['target_modules'])}, layers: {layers}")
PY
found=$("$folder/env/bin/python" "$folder/program.py" "$folder/saved" 2>"$folder/errors" || tail -3 "$folder/errors")
echo "$found"
[[ "$found" == "excluded: [], targeted: "*"'v_proj'], layers: ['0']" ]]
