import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from loradock.engine.runtime.threads import Helpers, current_processor, processors


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells on which processor a thread is")
def test_helpers_keep_off_the_processor_of_the_compute_thread():
    mine, helpers = processors(), Helpers(1)
    with ThreadPoolExecutor(1, initializer=helpers.join) as pool, ThreadPoolExecutor(1) as compute:
        pool.submit(int).result()
        for processor in sorted(mine):
            compute.submit(os.sched_setaffinity, 0, {processor}).result()
            assert compute.submit(current_processor).result() == processor
            compute.submit(os.sched_setaffinity, 0, mine).result()
            here = compute.submit(_keep_off, helpers).result()
            others = mine - {here} or mine
            assert pool.submit(os.sched_getaffinity, 0).result() == others
            assert pool.submit(current_processor).result() in others
    assert processors() == mine


def _keep_off(helpers):
    """Where the compute thread was."""
    while True:
        here = current_processor()
        helpers.keep_off()
        if current_processor() == here:
            return here


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells on which processor a thread is")
def test_more_helpers_than_other_processors_stay_where_the_system_puts_them():
    helpers = Helpers(len(processors()))
    with ThreadPoolExecutor(1, initializer=helpers.join) as pool:
        pool.submit(int).result()
        helpers.keep_off()
        assert pool.submit(os.sched_getaffinity, 0).result() == processors()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells on which processor a thread is")
def test_a_helper_that_has_ended_is_no_error():
    helpers = Helpers(1)
    with ThreadPoolExecutor(1, initializer=helpers.join) as pool:
        pool.submit(int).result()
    helpers.keep_off()
