"""What runs within one core, in a process of its own: run as a script with a bundle, a count of cores, and where.

Where is `affinity`, or the folder of a cgroup that the process joins. It loads the bundle as a process would that was
granted so many cores (0: as many as it finds) and prints the inputs that it answers a second.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

INPUTS = 96


def main() -> None:
    bundle, granted, where = sys.argv[1:]
    if where == "affinity":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    else:
        (Path(where) / "cgroup.procs").write_text(str(os.getpid()))
    # Imported only now: ONNX Runtime counts the cores as it is loaded.
    import sanderling
    from sanderling import cores
    from sanderling.golden import read_golden
    from sanderling.tuning.workload import workload

    if int(granted):
        cores.granted = lambda: int(granted)
    opened = sanderling.open_bundle(bundle)
    items = workload(opened, read_golden(opened), INPUTS)
    with sanderling.load(bundle) as model:
        model.answer(items)
        started = time.perf_counter()
        model.answer(items)
        print(len(items) / (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
