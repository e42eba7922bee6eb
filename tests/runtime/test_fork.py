"""A process that forks gets an error or a fresh session, never a hang."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys, sanderling
texts = ["word " * 40] * 40
model = sanderling.load(sys.argv[1], threads=2)
model(texts)
child = os.fork()
if child == 0:
    try:
        model("one")
    except sanderling.ModelClosedError as error:
        assert "forked" in str(error), error
    else:
        sys.exit(3)
    fresh = sanderling.load(sys.argv[1], threads=2)
    assert fresh(texts).embeddings.shape[0] == len(texts)
    del model
    sys.exit(7)
status = os.waitpid(child, 0)[1]
assert os.waitstatus_to_exitcode(status) == 7, status
model(texts)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS aborts a forked child that uses threaded libraries")
def test_a_forked_child_is_told_and_may_load_again(embedding_bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(embedding_bundle)], timeout=60, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
