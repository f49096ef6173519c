"""Makes OpenVINO's form of a GGUF file; run by the interpreter of the environment that has openvino-genai.

python openvino_model.py GGUF FOLDER

openvino-genai reads GGUF by itself (a preview feature, not BF16), but names no product after the layer it stands for,
so that its adapters find none of them: here they get the names that a converted PyTorch model has.
"""

import math
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

import openvino
import openvino_genai

_BETWEEN = ("Constant", "Convert", "Multiply", "Subtract", "Reshape")
"""What stands between a product and its weights, in few bits and in 16."""
_SMALLEST = 4096
"""Bytes of weights: frequencies of positions are multiplied, too."""


def main(gguf: str, folder: str) -> None:
    with tempfile.TemporaryDirectory(dir=Path(folder).parent) as name:
        draft = Path(name)
        (draft / "model.gguf").symlink_to(gguf)
        openvino_genai.LLMPipeline(draft / "model.gguf", "CPU", enable_save_ov_model=True)
        model = openvino.Core().read_model(draft / "openvino_model.xml")
        count = name_products(model)
        if count == 0:
            sys.exit("no product was found that an adapter could change")
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        for file in draft.glob("openvino_*tokenizer.*"):
            file.rename(target / file.name)
        openvino.save_model(model, target / "openvino_model.xml", compress_to_fp16=False)
    print(f"{count} products named")


def name_products(model: openvino.Model) -> int:
    """Found by where they stand: around each layer's attention and its activation."""
    operations = model.get_ordered_ops()
    found: dict[str, openvino.Node | None] = {}
    attentions = (node for node in operations if node.get_type_name() == "ScaledDotProductAttention")
    for layer, attention in enumerate(attentions):
        for place, name in enumerate(("q_proj", "k_proj", "v_proj")):
            found[f"{layer}.self_attn.{name}"] = _nearest([attention.input_value(place).get_node()], _above)
        found[f"{layer}.self_attn.o_proj"] = _nearest(_below(attention), _below)
    activations = (node for node in operations if node.get_type_name() == "Swish")
    for layer, activation in enumerate(activations):
        (gated,) = _below(activation)
        up = [node for node in _above(gated) if node.get_friendly_name() != activation.get_friendly_name()]
        found[f"{layer}.mlp.gate_proj"] = _nearest(_above(activation), _above)
        found[f"{layer}.mlp.up_proj"] = _nearest(up, _above)
        found[f"{layer}.mlp.down_proj"] = _nearest(_below(gated), _below)
    products = [product for product in found.values() if product is not None]
    if len({product.get_friendly_name() for product in products}) != len(found):
        return 0
    for path, product in zip(found, products, strict=True):
        product.set_friendly_name(f"__module.model.layers.{path}/ov_ext::linear/MatMul")
    return len(products)


def _above(node: openvino.Node) -> list[openvino.Node]:
    return [value.get_node() for value in node.input_values()]


def _below(node: openvino.Node) -> list[openvino.Node]:
    return [target.get_node() for output in node.outputs() for target in output.get_target_inputs()]


def _nearest(
    begin: list[openvino.Node], further: Callable[[openvino.Node], list[openvino.Node]]
) -> openvino.Node | None:
    """The first product with weights on the way."""
    waiting, seen = deque(begin), set[str]()
    while waiting:
        node = waiting.popleft()
        if node.get_type_name() == "MatMul" and _has_weights(node.input_value(1).get_node()):
            return node
        if node.get_friendly_name() not in seen:
            seen.add(node.get_friendly_name())
            waiting += further(node)
    return None


def _has_weights(node: openvino.Node) -> bool:
    if node.get_type_name() == "Constant":
        return node.get_element_type().size * math.prod(node.get_shape()) >= _SMALLEST
    return node.get_type_name() in _BETWEEN and any(_has_weights(above) for above in _above(node))


if __name__ == "__main__":
    main(*sys.argv[1:])
