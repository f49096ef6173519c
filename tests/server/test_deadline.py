import subprocess
import sys

STUCK = """
import threading, time
from loradock.server.deadline import end_within
end_within(0.2)
threading.Thread(target=time.sleep, args=(600,)).start()
"""


def test_a_stop_that_hangs_is_ended_and_told():
    result = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "has not stopped within 0 s" in result.stderr
    assert "Thread" in result.stderr
