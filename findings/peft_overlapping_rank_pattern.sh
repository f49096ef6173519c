#!/usr/bin/env bash
# peft 0.21.2: an adapter trained with overlapping keys in rank_pattern cannot be loaded from its own folder.
# The first key that matches counts, and saving sorts the keys: another one is first when the folder is read.
# Seen: trained with {"self_attn.q_proj": 2, "q_proj": 7} the matrices have rank 2, the saved file lists q_proj first,
# and from_pretrained fails with a size mismatch.
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

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

sizes = dict(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
pattern = {"self_attn.q_proj": 2, "q_proj": 7}
config = LoraConfig(r=4, target_modules=["q_proj"], rank_pattern=pattern, task_type="CAUSAL_LM")
model = get_peft_model(LlamaForCausalLM(LlamaConfig(**sizes)), config)
trained = model.base_model.model.model.layers[0].self_attn.q_proj.lora_A["default"].weight.shape[0]
model.save_pretrained(sys.argv[1])
saved = list(json.loads((Path(sys.argv[1]) / "adapter_config.json").read_text())["rank_pattern"])
try:
    PeftModel.from_pretrained(LlamaForCausalLM(LlamaConfig(**sizes)), sys.argv[1])
    loaded = "loaded"
except Exception as error:
    loaded = "size mismatch" if "size mismatch" in str(error) else type(error).__name__
print(f"rank {trained}, first key when saved: {saved[0]}, {loaded}")
PY
found=$("$folder/env/bin/python" "$folder/program.py" "$folder/saved" 2>/dev/null)
echo "$found"
[ "$found" = "rank 2, first key when saved: q_proj, size mismatch" ]
