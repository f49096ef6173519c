#!/usr/bin/env bash
# peft 0.21.2: adapters called "0" and "1" are saved without the layer that has the other's number, and nothing warns.
# Seen: of a model of two layers, each of the two folders holds the tensors of one; called "a" and "b", of both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 2>/dev/null
"$folder/env/bin/pip" install --quiet --disable-pip-version-check peft==0.21.2 transformers==5.24.0 2>/dev/null
cat > "$folder/program.py" <<'PY'
import sys
from pathlib import Path

from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

sizes = dict(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
for names in (("0", "1"), ("a", "b")):
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM(LlamaConfig(**sizes)), config, adapter_name=names[0])
    model.add_adapter(names[1], config)
    model.save_pretrained(Path(sys.argv[1]) / "-".join(names))
    for name in names:
        file = Path(sys.argv[1]) / "-".join(names) / name / "adapter_model.safetensors"
        with safe_open(file, "np") as tensors:
            layers = sorted({key.split(".layers.")[1].split(".")[0] for key in tensors.keys()})
        print(f"adapter {name}: layers {', '.join(layers)}")
PY
found=$("$folder/env/bin/python" "$folder/program.py" "$folder/saved" 2>/dev/null)
echo "$found"
[ "$(echo "$found" | head -2 | grep -c ', ')" = 0 ] && [ "$(echo "$found" | tail -2 | grep -c 'layers 0, 1')" = 2 ]
