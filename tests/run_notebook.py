"""Run the cells of one notebook in this interpreter, as nbdev's test runner does, within a limit of CPU time.

python run_notebook.py NOTEBOOK SECONDS REPORT: the report tells which cells ran, and how long each took."""

import contextlib
import io
import json
import os
import re
import resource
import signal
import sys
from pathlib import Path


def main(path: Path, limit: int, report: Path) -> int:
    from nbdev.config import get_config
    from nbdev.test import test_nb

    said = io.StringIO()

    def write(**facts) -> None:
        cells = re.findall(rf"^{re.escape(path.name)}:([\w-]+): ([\d.]+)s$", said.getvalue(), re.MULTILINE)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        facts |= {"cells": cells, "cpu": sum(u.ru_utime + u.ru_stime for u in used)}
        report.write_text(json.dumps(facts), encoding="utf-8")

    def stop(*_) -> None:
        write(passed=False, limit=True)
        os._exit(1)

    signal.signal(signal.SIGXCPU, stop)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 30))
    config = get_config(path.parent)
    flags = config.tst_flags.split() if isinstance(config.tst_flags, str) else config.tst_flags
    with contextlib.redirect_stdout(said):
        passed, _ = test_nb(path, skip_flags=flags, basepath=config.config_path, cell_timeout=None, cell_timing_min=-1)
    write(passed=bool(passed), limit=False)
    return int(not passed)


if __name__ == "__main__":
    status = main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads and executors that a notebook left behind do not hold up the run
