"""Weights in few bits against the same numbers in full."""

import pytest
import torch

from loradock.engine.blocks import Blocks


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("bits", "step"), [(4, 2 / 15), (8, 1 / 127)])
def test_a_product_is_that_of_the_nearest_numbers_in_so_many_bits(bits, step, threads):
    random = torch.Generator().manual_seed(0)
    weight = torch.rand(50, 96, generator=random) * 2 - 1
    blocks = Blocks(weight, bits, threads)
    # One row for each column of the weight: the products are its numbers.
    found = blocks.multiply(torch.eye(96)).T
    assert (found - weight).abs().max() <= step / 2 + 1e-4
    x = torch.randn(3, 96, generator=random)
    torch.testing.assert_close(blocks.multiply(x), x @ found.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_block_of_equal_numbers_stays_what_it_is(bits):
    weight = torch.cat([torch.zeros(2, 32), torch.full((2, 32), 0.25)], dim=1)
    torch.testing.assert_close(Blocks(weight, bits, 1).multiply(torch.eye(64)).T, weight)
