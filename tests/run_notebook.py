"""Run the cells of one notebook in this interpreter, as nbdev's test runner does, within a limit of CPU time.

python run_notebook.py NOTEBOOK SECONDS LOG: a line of the log for every cell that ran, with its time, and a last one."""

import contextlib
import os
import resource
import sys
from pathlib import Path

DONE = "the notebook ran to its end"


def main(path: Path, limit: int, log: Path) -> bool:
    from nbdev.config import get_config
    from nbdev.test import test_nb

    # the system ends the process then: a handler in Python would wait for the main thread, which waits for the cells
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    config = get_config(path.parent)
    flags = config.tst_flags.split() if isinstance(config.tst_flags, str) else config.tst_flags
    with open(log, "w", buffering=1, encoding="utf-8") as file, contextlib.redirect_stdout(file):
        passed, _ = test_nb(path, skip_flags=flags, basepath=config.config_path, cell_timeout=None, cell_timing_min=-1)
        print(DONE if passed else "a cell failed")
    return bool(passed)


if __name__ == "__main__":
    passed = main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), Path(sys.argv[3]))
    sys.stderr.flush()
    os._exit(int(not passed))  # threads and executors that a notebook left behind do not hold up the run
