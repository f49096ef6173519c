"""Drafts from what was said before: which are made, and that answers are the same whatever is drafted."""

import random
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.base_config import read_architecture
from loradock.engine.core import Row, SamplingParams, Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.generation.generation import Ended, Generation, TokenSampled
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.loading import adapter_reader, load_model
from loradock.engine.models.native_decoder import NativeDecoder
from loradock.engine.models.runner import Runner
from loradock.engine.process.assembly import build_loop
from loradock.engine.process.options import read_options
from loradock.engine.requests.constraint import Constraint
from loradock.engine.scheduling.drafting import TOGETHER, NgramDrafter
from loradock.engine.scheduling.loop import EngineLoop
from loradock.engine.scheduling.scheduler import Scheduler
from loradock.engine.structured_output.grammar import Grammars
from loradock.engine.text.tokenizer import load_tokenizer
from loradock.engine.text.tokens import TokenBytes
from tests.engine import tiny


def sequence(prompt, output=(), number=1, most=100, adapter=None):
    # Only the load id of an adapter matters here.
    owner = SimpleNamespace(load_id=adapter) if adapter else None
    return Sequence(number, list(prompt), SamplingParams(max_tokens=most), owner, output=list(output))


def drafts(drafter, *sequences):
    return drafter.propose(list(sequences))


def following(tokens, earlier, most):
    """What followed the last tokens before, here or in an earlier answer, the slow way."""
    for counts in ((4, 3, 2), (1,)):
        for text, repeats in ((tokens[:-1], True), (earlier, False)):
            for count in counts:
                for end in range(len(text), count - 1, -1):
                    if text[end - count : end] == tokens[-count:] and count <= len(tokens):
                        behind = tokens[end:] if repeats else earlier[end:]
                        return [behind[n % len(behind)] for n in range(most)] if repeats else behind[:most]
    return []


WORDS = st.lists(st.sampled_from([0, 1, 2, 256, 257, 65536]), min_size=1, max_size=40)
"""Some of these numbers look alike at other than a number's borders."""


@given(WORDS, st.integers(0, 30), WORDS)
def test_what_followed_the_longest_run_of_last_tokens_is_drafted(tokens, split, earlier):
    drafter, said = NgramDrafter(3), sequence([], earlier, number=2)
    drafter._seconds = dict.fromkeys(range(1, 5), 1.0)
    assert drafts(drafter, said)
    drafter.forget(said)
    assert drafts(drafter, sequence(tokens[:split], tokens[split:])) == [following(tokens, earlier, 3)]


def test_what_was_said_through_one_adapter_is_not_drafted_for_another():
    drafter = NgramDrafter(2)
    for number in (1, 2):
        said = sequence([1, 2, 3], [10 * number, 10 * number + 1], number=number, adapter=number)
        drafts(drafter, said)
        drafter.forget(said)
    again = [sequence([7, 2, 3], number=10 + number, adapter=number) for number in (1, 2, 0)]
    assert [drafts(drafter, one) for one in again] == [[[10, 11]], [[20, 21]], [[]]]
    drafter.forget_adapter(1)
    assert [drafts(drafter, one) for one in again] == [[[]], [[20, 21]], [[]]]


def test_a_draft_ends_where_the_answer_it_is_of_ended():
    drafter = NgramDrafter(5)
    for number, answer in enumerate(([8, 9], [5, 6])):
        said = sequence([1, 2, 3], answer, number=number)
        drafts(drafter, said)
        drafter.forget(said)
    assert drafts(drafter, sequence([4, 8])) == [[9]]
    assert drafts(drafter, sequence([4, 9], number=2)) == [[]]


def test_of_very_many_answers_the_latest_are_kept():
    drafter = NgramDrafter(1)
    for number in range(3000):
        said = sequence([number], [number + 5000], number=number, adapter=number % 300)
        drafts(drafter, said)
        drafter.forget(said)
    assert len(drafter._ngrams) == 256
    said = sequence([1], list(range(10_000)), most=20_000, adapter=1)
    drafts(drafter, said)
    drafter.forget(said)
    assert len(drafter._ngrams[1]) == 4096
    assert drafts(drafter, sequence([9000], adapter=1)) == [[9001]]


def test_no_more_is_drafted_than_may_be_said():
    for left, wanted in ((5, [3, 4, 5]), (2, [3]), (1, []), (0, [])):
        made = sequence([1, 2, 3, 4, 5, 1, 2], most=left)
        assert drafts(NgramDrafter(3), made) == [wanted]
    assert drafts(NgramDrafter(0), sequence([1, 2, 1, 2])) == [[]]


def test_a_sequence_is_followed_as_it_grows():
    drafter, growing = NgramDrafter(2), sequence([1, 2, 3])
    assert drafts(drafter, growing) == [[]]
    growing.output += [7, 1, 2]
    assert drafts(drafter, growing) == [[3, 7]]
    growing.output += [3, 7]
    assert drafts(drafter, growing) == [[1, 2]]


def tries(drafter, one, tokens):
    """In how many steps something is tried while these tokens are said, each a step that takes a tenth longer for each
    token that is tried."""
    tried = 0
    for said in tokens:
        (draft,) = drafts(drafter, one)
        tried += bool(draft)
        drafter.record(1 + len(draft), 1.0 + 0.1 * len(draft))
        if draft:
            drafter.note(one, len(draft), int(draft[0] == said))
        one.output.append(said)
    return tried


def test_what_is_never_right_is_not_tried_for_long_and_tried_again_once_it_would_be_right():
    dice, drafter, one = random.Random(1), NgramDrafter(3), sequence(range(100), most=1000)
    dull = [dice.randrange(100) for _ in range(400)]
    assert tries(drafter, one, dull) < 100
    assert tries(drafter, one, [1, 2, 3] * 20) > 40


def test_as_many_are_tried_as_a_step_takes_without_becoming_slow():
    drafter, repeating = NgramDrafter(7), sequence([1, 2, 3, 4] * 3)
    for _ in range(100):
        (draft,) = drafts(drafter, repeating)
        # From the fifth token on a step takes three times as long.
        drafter.record(1 + len(draft), 1.0 if len(draft) <= 3 else 3.0)
        if draft:
            drafter.note(repeating, len(draft), len(draft))
    assert len(drafts(drafter, repeating)[0]) == 3
    assert drafter.accepted == drafter.drafted


def test_a_step_of_many_sequences_has_no_drafts_and_never_too_many_tokens():
    for count in range(1, 30):
        drafter = NgramDrafter(7)
        made = drafts(drafter, *(sequence([1, 2, 3, 4] * 3, number=n) for n in range(count)))
        assert count + sum(map(len, made)) <= TOGETHER or not any(made)
        assert any(made) or count > 4
        assert not any(made) or count <= TOGETHER // 2


def test_a_sequence_that_has_said_nothing_is_not_drafted_for():
    """The token it computes may be the last of its prompt, found in the cache but for that one."""
    scheduler = Scheduler(KVCache(Architecture("llama", 10, 2, 2, 1, 1, 1, 2, 1e4, 1e-5, 64), 8, Dtype.FLOAT32), 4, 64)
    scheduler.drafter = Oracle({1: [5, 6]}, 1)
    scheduler.add([sequence([1])])
    assert [(row.count, row.drafts) for row in scheduler.schedule()] == [(1, [])]


@pytest.mark.parametrize("skipped", [0, 1, 2, 3])
def test_a_rows_tokens_are_what_was_said_and_then_what_is_drafted(skipped):
    for said in ([], [7], [7, 8]):
        made = sequence([1, 2, 3], said)
        made.computed = len(made) - 1
        row = Row(made, 4 - skipped, 1, skipped, [11, 12, 13])
        assert row.tokens == [made.tokens[-1], 11, 12, 13][skipped:]


def test_a_text_that_looks_like_others_between_its_tokens_is_not_searched_for_ever():
    drafter = NgramDrafter(3)
    assert drafts(drafter, sequence([256, 65536] * 4000 + [0])) == [[]]


def test_nothing_is_kept_of_who_has_left():
    scheduler = Scheduler(KVCache(Architecture("llama", 10, 2, 2, 1, 1, 1, 2, 1e4, 1e-5, 64), 8, Dtype.FLOAT32), 4, 64)
    for drafted in (sequence([1, 2, 1, 2]), sequence([3, 4, 3, 4], number=2)):
        scheduler.drafter.most = 3
        scheduler.add([drafted])
        drafts(scheduler.drafter, drafted)
        scheduler.remove(drafted)
        scheduler.remove(drafted)
    assert scheduler.drafter._past == {}


class Oracle(NgramDrafter):
    """Drafts what is known to come, with mistakes: every way in which a draft can be right or wrong."""

    def __init__(self, known, seed):
        super().__init__(7)
        self.known, self.dice = known, random.Random(seed)

    def propose(self, sequences):
        return [self._oracle(one) for one in sequences]

    def _oracle(self, one):
        said = len(one.output)
        right = self.known[one.id][said : said + self.dice.randint(0, 5)]
        left = one.params.max_tokens - said - 1
        return [t if self.dice.random() < 0.8 else 7 for t in right][:left]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drafting")
    base = tiny.save_base(folder / "base")
    for seed in (1, 2):
        tiny.save_adapter(folder / f"adapter{seed}", base, seed, targets=tuple(read_architecture(base).linears()))
    return folder


@pytest.fixture(scope="module", params=[None, 8], ids=["bf16", "int8"])
def model(request, files):
    made = load_model(files / "base", Dtype.BFLOAT16, bits=request.param)
    assert isinstance(made, NativeDecoder)
    return made


def jobs(model, files):
    """(prompt, parameters, adapter, tokens that end it, constraint) of answers of every kind."""
    reader = adapter_reader(model)
    adapters = [None, *(reader.read(f"a{n}", files / f"adapter{n}") for n in (1, 2))]
    dice = random.Random(5)
    kinds = [
        {"temperature": 0},
        {"temperature": 0, "logprobs": 2},
        {"temperature": 0, "frequency_penalty": 0.7, "repetition_penalty": 1.2},
        {"temperature": 1.0, "seed": 3},
        {"temperature": 0.8, "top_p": 0.9, "top_k": 50, "seed": 4, "logprobs": 1},
    ]
    schema = Constraint("response_format", {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}})
    for number, kind in enumerate([*kinds, kinds[0], kinds[3]]):
        prompt = [dice.randrange(100, 40_000) for _ in range(dice.randrange(1, 40))]
        params = SamplingParams(max_tokens=dice.randrange(20, 50), ignore_eos=True, **kind)
        yield prompt, params, adapters[number % 3], schema if number > 4 else None


class Heard:
    """What came of the generations of one run. `work` is done in phases, each when the one before is done; those of a
    group are submitted as generations of one prompt."""

    def __init__(self, model, phases, drafter, eos=frozenset(), blocks=60):
        self.events = [[] for phase in phases for group in phase for _ in group]
        cache = KVCache(model.architecture, blocks, model.dtype)
        scheduler = Scheduler(cache, 8, 256)
        scheduler.drafter = drafter
        loop = EngineLoop(Runner(model, cache, 2), scheduler, self._deliver, print)
        loop.start()
        number = 0
        for phase in phases:
            self._left, self._done = sum(map(len, phase)), threading.Event()
            for group in phase:
                made = [self._generation(number + n, *one, eos) for n, one in enumerate(group)]
                loop.submit(made)
                number += len(group)
            assert self._done.wait(120)
        self.steps, self.preemptions = loop.steps, scheduler.preemptions
        loop.stop(10)
        assert cache.usage == 0
        self.remembered = {chain: cache.memory[block].copy() for chain, block in cache._by_content.items()}

    def _generation(self, number, prompt, params, adapter, grammar, stops, eos):
        made = Sequence(number, list(prompt), params, adapter)
        made.constrained = grammar is not None
        ends = stops | eos if grammar else stops
        return Generation(made, self.events[number].append, ends, grammar.copy() if grammar else None)

    def _deliver(self, events):
        for generation, event in events:
            generation.send(event)
            self._left -= isinstance(event, Ended) or (isinstance(event, TokenSampled) and event.finish is not None)
        if self._left == 0:
            self._done.set()

    @property
    def tokens(self):
        return [[event.token for event in events if isinstance(event, TokenSampled)] for events in self.events]


def same(one, other):
    """Whether all was said alike, and computed alike to the last bit."""
    assert one.tokens == other.tokens
    assert [events[1:] for events in one.events] == [events[1:] for events in other.events]
    for chain in one.remembered.keys() & other.remembered.keys():
        for left, right in zip(one.remembered[chain], other.remembered[chain], strict=True):
            assert np.array_equal(left, right)


def again(work, said):
    """Another phase: what is asked begins as what was asked or answered before, so that blocks are found again. With
    17 and 33 tokens a single one of the prompt is left to compute."""
    for one, tokens in zip(work, said, strict=True):
        prompt, params, adapter, *_ = one
        whole = prompt + tokens
        yield [(whole, params, adapter, None, frozenset())]
        for length in (17, 33):
            if len(whole) >= length:
                yield [(whole[:length], params, adapter, None, frozenset())] * 2


def test_answers_are_the_same_whatever_is_drafted(model, files):
    tokenizer = load_tokenizer(files / "base", model.architecture)
    grammars = Grammars(
        tokenizer.tokenizer, TokenBytes(tokenizer.tokenizer), tokenizer.eos_ids, model.architecture.vocab_size
    )
    work = [(p, s, a, c and grammars.compile(c), frozenset()) for p, s, a, c in jobs(model, files)]
    free = Heard(model, [[[one] for one in work]], NgramDrafter(0), tokenizer.eos_ids)
    # One of them ends in the middle of what may be drafted.
    stop = free.tokens[0][11]
    work[0] = *work[0][:4], frozenset({stop})
    later = list(again(work, free.tokens))
    phases = [[[one] for one in work], later, later]
    plain = Heard(model, phases, NgramDrafter(0), tokenizer.eos_ids)
    assert plain.tokens[0] == free.tokens[0][: free.tokens[0].index(stop) + 1]
    for seed in range(2):
        drafter = Oracle(dict(enumerate(plain.tokens)), seed)
        drafted = Heard(model, phases, drafter, tokenizer.eos_ids)
        same(drafted, plain)
        assert 0 < drafter.accepted < drafter.drafted
        assert drafted.steps < plain.steps
        assert len(drafted.remembered.keys() & plain.remembered.keys()) > 10
    learned = NgramDrafter(7)
    same(Heard(model, phases, learned, tokenizer.eos_ids), plain)
    assert learned.accepted > 0, "what was asked before was answered before"


def test_answers_are_the_same_where_drafts_take_the_last_blocks(model, files):
    work = [(p, s, a, None, frozenset()) for p, s, a, _ in jobs(model, files)]
    phases = [[[one] for one in work]]
    plain = Heard(model, phases, NgramDrafter(0), blocks=14)
    drafted = Heard(model, phases, Oracle(dict(enumerate(plain.tokens)), 1), blocks=14)
    assert plain.preemptions and drafted.preemptions
    same(drafted, plain)


@pytest.mark.parametrize(("head_dim", "most"), [(16, 7), (24, 0)])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_where_rows_depend_on_each_other_there_are_no_drafts(tmp_path, dtype, head_dim, most):
    """Heads of no whole vectors are PyTorch's."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=64, head_dim=head_dim)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    options = read_options(["--model", str(tmp_path / "base"), "--dtype", dtype, "--kv-cache-gib", "0.01"])
    assert build_loop(options, print, print).scheduler.drafter.most == most


def test_every_token_that_is_accepted_spares_a_step(model, files):
    """Of three words only, an answer soon repeats itself."""
    params = SamplingParams(max_tokens=60, seed=1, ignore_eos=True, logit_bias=dict.fromkeys((20, 21, 22), 100.0))
    work = [[[([11, 12, 13], params, None, None, frozenset())]]]
    drafter = NgramDrafter(7)
    plain, drafted = (Heard(model, work, one) for one in (NgramDrafter(0), drafter))
    assert drafted.tokens == plain.tokens
    assert drafter.accepted > 0
    assert drafted.steps == plain.steps - drafter.accepted
