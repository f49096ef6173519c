"""Folders of adapters as people's tools leave them, for a small base: some plain, most of them odd in some way."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.base_config import read_architecture

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MODULES = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
MLX = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0.0}}
Weights = dict[str, np.ndarray]


class Folders:
    """Writes below `root`, for the base model in `base`, which is called `name`."""

    def __init__(self, root: Path, base: Path, name: str) -> None:
        self.root, self.base, self.name = root, base, name
        self.shape: Architecture = read_architecture(base)

    def weights(
        self, rank: int = 4, modules: Iterable[str] = MODULES, layers: Iterable[int] | None = None, seed: int = 1
    ) -> Weights:
        dice, made = np.random.default_rng(seed), {}
        for layer in range(self.shape.layers) if layers is None else layers:
            for module in modules:
                out, into = self.shape.linears()[module]
                path = f"base_model.model.{self.shape.module_path(layer, module)}"
                made[f"{path}.lora_A.weight"] = dice.standard_normal((rank, into)).astype(np.float16)
                made[f"{path}.lora_B.weight"] = dice.standard_normal((out, rank)).astype(np.float16)
        return made

    def config(self, **changed) -> dict:
        plain = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.name,
            "r": 4,
            "lora_alpha": 8,
            "bias": "none",
            "target_modules": list(MODULES),
        }
        return {**plain, **changed}

    def write(self, folder: str, weights: Weights | None = None, config: dict | None = None) -> Path:
        path = self.root / folder
        path.mkdir(parents=True)
        (path / "adapter_config.json").write_text(json.dumps(self.config() if config is None else config))
        save_file(self.weights() if weights is None else weights, path / "adapter_model.safetensors")
        return path

    def renamed(self, folder: str, change: Callable[[str], str]) -> Path:
        return self.write(folder, {change(name): value for name, value in self.weights().items()})

    def all(self) -> None:
        self.write("plain")
        self.tables()
        self.named_bases()
        self.prefixes()
        self.mlx()
        self.places()
        self.patterns()

    def tables(self) -> None:
        """Whole embeddings and heads beside the LoRA pairs."""
        rows = load_file(self.base / "model.safetensors")["model.embed_tokens.weight"]
        changed = rows.copy()
        changed[:10] += 1
        for folder, table in {
            "tables-same": rows,
            "tables-longer": np.concatenate([rows, rows[:8]]),
            "tables-changed": changed,
        }.items():
            beside = {"base_model.model.model.embed_tokens.weight": table, "base_model.model.lm_head.weight": table}
            self.write(folder, {**self.weights(), **beside})

    def named_bases(self) -> None:
        short = self.name.rpartition("/")[2]
        for folder, base in {
            "base-bnb": f"unsloth/{short}-bnb-4bit",
            "base-mirror": f"unsloth/{short}",
            "base-path": "/data/train/model",
            "base-relative": "models/model",
            "base-sibling": f"{self.name}-Base",
            "base-null": None,
        }.items():
            self.write(folder, config=self.config(base_model_name_or_path=base))

    def prefixes(self) -> None:
        self.renamed("prefix-compiled-after", lambda n: f"_orig_mod.{n}")
        self.renamed("prefix-compiled-before", lambda n: n.replace("base_model.model.", "base_model.model._orig_mod."))
        self.renamed("prefix-no-model", lambda n: n.replace("model.model.model.", "model.model."))
        self.renamed("prefix-language-model", lambda n: n.replace(".layers.", ".language_model.layers."))
        self.renamed("prefix-none", lambda n: n.removeprefix("base_model.model."))
        self.renamed("prefix-adapter-name", lambda n: n.replace(".weight", ".policy.weight"))
        self.renamed("prefix-half", lambda n: f"_orig_mod.{n}" if ".layers.1." in n else n)

    def mlx(self) -> None:
        last = range(self.shape.layers - 2, self.shape.layers)
        some = self.weights(modules=ATTENTION, layers=last)
        folder = self.write("mlx", {}, {**MLX, "model": self.name})
        (folder / "adapter_model.safetensors").unlink()
        turned = {_as_mlx(name): np.ascontiguousarray(value.T) for name, value in some.items()}
        save_file(turned, folder / "adapters.safetensors")
        self.write("mlx-half", some, {**MLX, "base_model_name_or_path": self.name})
        self.write("mlx-half-no-base", some, MLX)
        self.write("last-layers", some, self.config(target_modules=list(ATTENTION)))

    def places(self) -> None:
        self.write("run/best")
        (self.root / "run" / "optimizer.pt").write_bytes(b"x")
        (self.root / "run" / "trainer_state.json").write_text("{}")
        for step in (500, 1000):
            self.write(f"two/checkpoint-{step}", self.weights(seed=step))

    def patterns(self) -> None:
        self.write("rank-128", self.weights(128), self.config(r=128))
        self.write("pattern-below", self.weights(2), self.config(r=128, rank_pattern={".*_proj": 2}))
        every = (self.shape.module_path(layer, name) for layer in range(self.shape.layers) for name in MODULES)
        self.write("anchored", self.weights(2), self.config(r=16, rank_pattern={f"^{path}": 2 for path in every}))
        self.write("pattern-nothing", config=self.config(alpha_pattern={"^q_proj": 100, "model.layers.0": 100}))
        self.write("pattern-first-wins", config=self.config(alpha_pattern={"self_attn.q_proj": 64, "q_proj": 4}))


def _as_mlx(name: str) -> str:
    """`model.layers.0.self_attn.q_proj.lora_a` for PEFT's name of A."""
    path, _, side = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition("_")
    return f"{path}_{side.lower()}"
