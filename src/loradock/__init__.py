"""One running endpoint, one base model, as many LoRA adapters as you have."""

__version__ = "0.1.0"
