"""Whatever users do to logging and to the standard streams: each record is kept once, with level, logger and task."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

TOP = """
import io, logging, logging.config, logging.handlers, os, queue, sys, warnings
{top}
from flowdeck import flow, get_run_logger, task
library = logging.getLogger("some.library")

@task
def speaks():
{setting}
    logging.getLogger("some.library").warning("by the library")
    get_run_logger().info("by the run logger")
    get_run_logger().debug("in detail")
    print("printed")
    print("printed to stderr", file=sys.stderr)

@flow
def whole():
    speaks()
    get_run_logger().warning("by the flow")

if __name__ == "__main__":
    whole()
"""
SETTINGS = {
    "nothing": ("", ""),
    "at the top": ("logging.basicConfig(format='%(levelname)s mine %(message)s')", ""),
    "to stdout at the top": ("logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))", ""),
    "basicConfig": ("", "logging.basicConfig(level=logging.DEBUG)"),
    "force": ("logging.basicConfig()", "logging.basicConfig(force=True, stream=sys.stdout)"),
    "dictConfig": ("", "logging.config.dictConfig({'version': 1, 'handlers': {'out': {'class': 'logging.StreamHandler',"
                       " 'stream': 'ext://sys.stdout'}}, 'root': {'level': 'INFO', 'handlers': ['out']},"
                       " 'loggers': {'some.library': {}}})"),
    "disable": ("", "logging.disable(logging.INFO)"),
    "handlers removed": ("", "logging.getLogger().handlers.clear()"),
    "no propagation": ("", "one = logging.getLogger('some.library'); one.propagate = False;"
                           " one.addHandler(logging.StreamHandler())"),
    "shutdown": ("", "logging.shutdown()"),
    "captureWarnings": ("", "logging.captureWarnings(True)"),
    "queue": ("", "q = queue.Queue(); logging.getLogger().addHandler(logging.handlers.QueueHandler(q));"
                  " one = logging.handlers.QueueListener(q, logging.StreamHandler()); one.start();"
                  " __import__('atexit').register(one.stop)"),
    "streams wrapped": ("", "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8', line_buffering=True)"),
    "streams put back": ("", "sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__"),
    "a tee": ("", "exec('class T:\\n def write(s, t): return sys.__stdout__.write(t)\\n def flush(s): pass');"
                  " sys.stdout = locals()['T']()"),
    "a handler that raises": ("", "one = logging.StreamHandler(); one.setFormatter(logging.Formatter('%(nothing)s'));"
                                  " logging.raiseExceptions = False; logging.getLogger().addHandler(one)"),
}  # fmt: skip
WANTED = [
    ("by the library", "WARNING", "some.library", 1), ("by the run logger", "INFO", "flowdeck.run", 1),
    ("in detail", "DEBUG", "flowdeck.run", 1), ("printed", "INFO", "stdout", 1),
    ("printed to stderr", "WARNING", "stderr", 1), ("by the flow", "WARNING", "flowdeck.run", None),
]  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_record_is_kept_once(reader, script, setting) -> None:
    """In the order it was said, however logging is set up; and the person sees each once."""
    top, within = SETTINGS[setting]
    script.path.write_text(TOP.format(top=top, setting=f"    {within}"))
    done = script.run()
    assert done.returncode == 0, done.stderr
    names = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR"}
    rows = [(row.message, names[row.level], row.logger, row.task_seq) for row in reader.logs(1)]
    assert rows == WANTED
    if setting != "queue":  # its own thread prints later, when ours has long been shown
        shown = done.stdout + done.stderr
        assert {text: shown.count(text) for text in ("by the library", "by the run logger", "by the flow")} == {
            "by the library": 1, "by the run logger": 1, "by the flow": 1,
        }  # fmt: skip


def test_under_a_daemon_a_configuration_at_the_top_doubles_nothing(tmp_path) -> None:
    """The file is imported by another process than the one that runs it."""
    flows = tmp_path / "flows.py"
    flows.write_text(TOP.format(top="logging.basicConfig(level=logging.DEBUG)", setting="    pass"))
    command = [sys.executable, "-P", "-m", "flowdeck"]
    environment = {**os.environ, "FLOWDECK_STORE": str(tmp_path / "store")}
    daemon = subprocess.Popen([*command, "daemon", str(flows)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, env=environment)  # fmt: skip
    try:
        submit = [*command, "submit", "whole", "--wait"]
        for _ in range(600):  # until the daemon knows the flow
            done = subprocess.run(submit, capture_output=True, text=True, env=environment, timeout=120, check=False)
            if done.returncode == 0 or daemon.poll() is not None:
                break
        assert done.returncode == 0, done.stderr
        logs = subprocess.run([*command, "logs", "1", "--json"], capture_output=True, text=True, env=environment,
                              timeout=120, check=True)  # fmt: skip
        rows = [(row["message"], row["level"], row["logger"], row["task"]) for row in json.loads(logs.stdout)]
        assert rows == WANTED
    finally:
        daemon.terminate()
        daemon.wait(60)
