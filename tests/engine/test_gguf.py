"""The built-in GGUF file against transformers: the same weights, the same tokens."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import dequantize, quantize
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from loradock.checkpoints.base_config import read_architecture
from loradock.checkpoints.gguf.gguf_file import GgufFile
from loradock.engine.models.weights import _rows, in_bfloat16, in_floats, tensor_reader
from loradock.engine.text.tokenizer import load_tokenizer
from tests.engine.tiny import SMOLLM2

TEXTS = [
    "Hello world",
    "  leading and   many    spaces  ",
    "tabs\t\tand\nnew\r\nlines\n\n\n end ",
    "12345 3.14 1,000,000 \uff12\uff13",
    "naïve café cafe\u0301 Å ﬁ ẞßİıſ",
    "日本語 中文 한국어 العربية हिन्दी ไทย",
    "👩‍👩‍👧‍👦 🇩🇪 ☔️ 👍🏽",
    "def f(x):\n    return x**2  # comment\n\tif a!=b:\n",
    "I'm you're WE'LL don\u2019t 'tis",
    "a\u00a0b\u2003c\u200bd\ufeff",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    "x <|im_end|> y<repo_name>z",
    "\x00\x01\x7f",
    "snake_case camelCase $100 €5 #tag @me https://x.y/z?q=1&r=%20",
    "a" * 300,
    "",
    "\n",
    "\ud7ff\ue000\U0010ffff",
]


@pytest.fixture(scope="module")
def architecture():
    return read_architecture(SMOLLM2)


@pytest.fixture(scope="module")
def tokenizer(architecture):
    return load_tokenizer(SMOLLM2, architecture).tokenizer


def test_weights_are_those_of_transformers(architecture):
    config = GgufConfig(dequantize=True)
    reference = AutoModelForCausalLM.from_pretrained(
        SMOLLM2.parent, gguf_file=SMOLLM2.name, quantization_config=config, dtype=torch.float32
    )
    read = tensor_reader(SMOLLM2, architecture)
    for name, expected in reference.named_parameters():
        assert torch.equal(torch.from_numpy(in_floats(read(name)).copy()), expected), name


def test_tokens_are_those_of_transformers(tokenizer):
    reference = AutoTokenizer.from_pretrained(SMOLLM2.parent, gguf_file=SMOLLM2.name)
    for text in TEXTS:
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokens == reference(text, add_special_tokens=False)["input_ids"], text
        assert tokenizer.decode(tokens, skip_special_tokens=False) == text


def test_every_digit_is_a_token_sequence_of_its_own(tokenizer):
    """As in the model's own tokenizer.json; the one transformers makes of a GGUF file joins some of these."""
    digits = "7½②Ⅷ٣٤"
    alone = [token for digit in digits for token in tokenizer.encode(digit, add_special_tokens=False).ids]
    assert tokenizer.encode(digits, add_special_tokens=False).ids == alone


def test_qwen_text_is_composed_first(tmp_path, architecture):
    file = tmp_path / "qwen.gguf"
    tokens = ["e", "Ì", "ģ", "Ã", "©", "Ã©"]
    writer = GGUFWriter(file, "qwen2")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(["Ã ©"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert load_tokenizer(file, architecture).tokenizer.encode("e\u0301").tokens == ["Ã©"]


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q8_0"])
def test_every_kind_of_numbers_is_read_as_by_the_gguf_package(tmp_path, kind):
    file, kind = tmp_path / "numbers.gguf", GGMLQuantizationType[kind]
    values = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)
    writer = GGUFWriter(file, "llama")
    writer.add_tensor("numbers", quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (tensor,), (expected,) = GgufFile(file).tensors, GGUFReader(file).tensors
    full = dequantize(expected.data, kind).copy()
    assert np.array_equal(in_floats(_rows(tensor)), full)
    rounded = (in_bfloat16(_rows(tensor)).astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(rounded, torch.from_numpy(full).bfloat16().float().numpy())


def test_every_kind_of_value_is_read_as_by_the_gguf_package(tmp_path):
    file = tmp_path / "values.gguf"
    writer = GGUFWriter(file, "llama")
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        getattr(writer, f"add_{kind}")(kind, 100)
    writer.add_float32("float32", 0.5)
    writer.add_float64("float64", 0.1)
    writer.add_bool("bool", val=True)
    writer.add_string("string", "naïve ☔")
    for name, values in {"texts": ["a", "", "ß"], "numbers": [1, -2, 3], "floats": [0.5, 1.5]}.items():
        writer.add_array(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    fields = {n: f for n, f in GGUFReader(file).fields.items() if not n.startswith("GGUF.")}
    assert GgufFile(file).fields == {name: field.contents() for name, field in fields.items()}
