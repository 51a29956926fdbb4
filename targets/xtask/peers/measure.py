"""Runs a program and says what it took, as JSON.

    python measure.py PROGRAM [ARGUMENT...]

first_output_s  seconds from its start to the first byte on its standard output; null if there was none
cpu_s           processor seconds of all its threads
peak_rss_bytes  the most memory it held
status          its exit status
stdout, stderr  what it wrote
"""

import json
import os
import subprocess
import sys
import tempfile
import time

with tempfile.TemporaryFile() as errors:
    start = time.monotonic()
    child = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
    )
    first, output = None, b""
    while piece := os.read(child.stdout.fileno(), 1 << 16):
        first = first or time.monotonic() - start
        output += piece
    _, status, usage = os.wait4(child.pid, 0)
    errors.seek(0)
    said = errors.read()
print(
    json.dumps(
        {
            "first_output_s": first,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_rss_bytes": usage.ru_maxrss * 1024,
            "status": os.waitstatus_to_exitcode(status),
            "stdout": output.decode(errors="replace"),
            "stderr": said.decode(errors="replace"),
        }
    )
)
