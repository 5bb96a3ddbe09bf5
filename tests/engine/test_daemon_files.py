"""Flow files as the daemon sees them: changes, mistakes, deletions, clashes; the last good version stays in service."""

from __future__ import annotations

import os
import time

from flowdeck.store.connection import transaction
from flowdeck.store.tables import runs

SAY = """
@flow
def etl():
    effect({word!r})
"""


def problem_of(box, path):
    return next((row for row in box.reader.problems() if row.path == path), None)


def test_a_changed_file_gets_a_new_host_and_its_runs_end_with_the_old_code(box):
    """A running run keeps the code it began with; the next one has the new; the old host is gone then."""
    text = """
        @flow
        def etl():
            effect("begin {word}")
            wait_for("go {word}")
            effect("end {word}")
    """
    box.write("etl.py", text.format(word="old"))
    daemon = box.daemon()
    first = box.submit("etl")
    box.wait_effects("begin old")
    old_host = parent_of(box.reader.lease_of(first).pid)
    box.write("etl.py", text.format(word="new"))
    box.wait(lambda: daemon.log.count("loaded") == 2)
    box.touch("go new")
    box.wait_state(box.submit("etl"), "Completed")
    assert box.effects() == ["begin old", "begin new", "end new"]
    box.touch("go old")
    box.wait_state(first, "Completed")
    box.wait(lambda: not os.path.exists(f"/proc/{old_host}"))


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[1])


def test_a_changed_import_of_a_file_gets_a_new_host_too(box):
    """Modules beside the flow file are followed, however deep."""
    box.write("parts/words.py", "WORD = 'old'\n", prelude=False)
    box.write("etl.py", "from parts.words import WORD\n@flow\ndef etl(): effect(WORD)\n")
    daemon = box.daemon()
    box.wait_state(box.submit("etl"), "Completed")
    box.write("parts/words.py", "WORD = 'new'\n", prelude=False)
    box.wait(lambda: daemon.log.count("loaded") == 2)
    box.wait_state(box.submit("etl"), "Completed")
    assert box.effects() == ["old", "new"]


def test_a_mistake_is_visible_while_the_last_good_version_serves(box):
    """The problem names file and line and holds the traceback; runs go on with the good version; mending clears it."""
    path = box.write("etl.py", SAY.format(word="good"))
    daemon = box.daemon()
    box.write("etl.py", SAY.format(word="bad") + "\nraise ValueError('half an edit')\n")
    row = box.wait(lambda: problem_of(box, path))
    assert f"{path}, line " in row.error
    assert "ValueError: half an edit" in row.error
    assert "raise ValueError" in row.traceback
    assert "its last good version stays in service" in daemon.log
    assert any("half an edit" in text for text in box.said("deployment"))
    box.wait_state(box.submit("etl"), "Completed")
    assert box.effects() == ["good"]
    box.write("etl.py", SAY.format(word="mended"))
    box.wait(lambda: problem_of(box, path) is None)
    box.wait_state(box.submit("etl"), "Completed")
    assert box.effects() == ["good", "mended"]


def test_a_file_that_is_broken_at_the_start_is_mended_by_another(box):
    """A module that was missing appears beside it: the file is tried again."""
    path = box.write("etl.py", "from missing_words import WORD\n@flow\ndef etl(): effect(WORD)\n")
    box.daemon()
    assert "no module named 'missing_words'" in problem_of(box, path).error
    box.write("missing_words.py", "WORD = 'found'\n", prelude=False)
    box.wait(lambda: problem_of(box, path) is None)
    box.wait_state(box.submit("etl"), "Completed")


def test_an_import_that_ends_the_process_is_a_problem_in_words(box):
    """A crash of the interpreter itself while importing."""
    path = box.write("etl.py", "@flow\ndef etl(): ...\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    box.daemon()
    assert "killed by signal 11 (SIGSEGV)" in problem_of(box, path).error


def test_imports_that_do_not_end_or_fork_or_leave_threads(box):
    """None keeps the others from being served; nothing of them is left when the daemon has ended."""
    forks = box.write("forks.py", """
        os.fork()
        @flow
        def forks(): effect("forks")
    """)
    endless = box.write("endless.py", """
        @flow
        def endless(): ...
        effect("importing")
        while True:
            time.sleep(0.1)
    """)
    lingers = box.write("lingers.py", """
        import threading
        threading.Thread(target=time.sleep, args=(1000,)).start()
        @flow
        def lingers(): effect("lingers")
    """)
    keyboard = box.write("keyboard.py", """
        @flow
        def keyboard(): ...
        raise KeyboardInterrupt
    """)
    daemon = box.daemon(ready=False)
    box.wait(lambda: len(box.reader.problems()) == 1 and "importing" in box.effects())
    assert "it raises KeyboardInterrupt while it is imported" in problem_of(box, keyboard).error
    for name in ("forks", "lingers"):
        box.wait(lambda name=name: any(flow.name == name for flow in box.reader.flows()))
        box.wait_state(box.submit(name), "Completed")
    assert box.effects().count("forks") == 1
    daemon.stop()
    assert "Traceback" not in daemon.log
    for path in (forks, endless, lingers):
        box.wait(lambda path=path: not processes_of(path))


def processes_of(path):
    """Live processes with this path among their words."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    found += [int(entry)] if path.encode() in file.read().split(b"\0") else []
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def test_files_come_and_go(box):
    """A new file is served; a deleted one is scheduled no more and an event says so; when it returns it goes on."""
    daemon = box.daemon()
    text = "@flow(schedule=Interval(0.3))\ndef etl(): effect('ran')\n"
    path = box.write("deeper/etl.py", text)
    box.wait_effects("ran")
    os.unlink(path)
    box.wait(lambda: "was deleted" in daemon.log)
    row = box.reader.schedules()[0]
    assert (row.active, row.next_due_at_us) == (False, None)
    assert any(f"no longer scheduled: {path} was deleted" in text for text in box.said("schedule"))
    count = len(box.reader.runs())
    gone_at = time.monotonic()
    box.wait(lambda: time.monotonic() > gone_at + 0.7)
    assert len(box.reader.runs()) == count
    box.write("deeper/etl.py", text)
    box.wait(lambda: len(box.reader.runs()) > count)
    assert any("scheduled again" in text for text in box.said("schedule"))


def test_what_the_daemon_is_not_given_is_not_scheduled(box):
    """A daemon started with other paths leaves the rest alone and says so; started with them again it goes on."""
    path = box.write("etl.py", "@flow(schedule=Interval(0.3))\ndef etl(): effect('ran')\n")
    other = box.write("../other.py", "@flow\ndef other(): ...\n")
    box.daemon().stop()
    box.daemon(other).stop()
    assert not next(row for row in box.reader.schedules() if row.deployment == "etl").active
    assert any("is not among the files of the daemon" in text for text in box.said("schedule"))
    count = len(box.reader.runs())
    box.daemon(path)
    box.wait(lambda: len(box.reader.runs()) > count)


def test_two_files_with_one_flow_name_are_a_problem_naming_both(box):
    """The first keeps the name; when it goes, the second gets it."""
    first = box.write("a.py", SAY.format(word="first"))
    second = box.write("b.py", SAY.format(word="second"))
    box.daemon()
    problems = box.reader.problems()
    assert len(problems) == 1
    for word in ("'etl'", first, second):
        assert word in problems[0].error
    keeper = box.reader.deployments()[0].path
    os.unlink(keeper)
    box.wait(lambda: box.reader.deployments()[0].path != keeper and not box.reader.problems())
    box.wait_state(box.submit("etl"), "Completed")


def test_new_times_count_from_now(box):
    """Changing a schedule's times moves its next tick; its past ticks stay as they are."""
    text = "@flow(schedule=Cron({cron!r}, overlap={overlap!r}))\ndef etl(): ...\n"
    box.write("etl.py", text.format(cron="0 6 * * *", overlap="skip"))
    daemon = box.daemon()
    before = box.reader.schedules()[0]
    box.write("etl.py", text.format(cron="0 7 * * *", overlap="skip"))
    box.wait(lambda: daemon.log.count("loaded") == 2)
    after = box.reader.schedules()[0]
    assert after.id == before.id
    assert after.next_due_at_us % 86_400_000_000 == 7 * 3_600_000_000
    assert any("its times have changed" in text for text in box.said("schedule"))
    box.write("etl.py", "@flow\ndef etl(): ...\n")
    box.wait(lambda: box.reader.schedules() == [])


def test_threads_at_import_mean_a_fresh_interpreter_for_each_run(box):
    """Forking beside threads is unsafe; the run still runs, in a process of its own session."""
    box.write("etl.py", """
        import threading
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        @flow
        def etl(n: int):
            effect(f"ran {n} {os.getsid(0) == os.getpid()} {__name__ != '__main__'}")
            return n
    """)
    box.daemon()
    run_id = box.submit("etl", n=3)
    assert box.wait_state(run_id, "Completed").result_preview == "3"
    assert box.effects() == ["ran 3 True True"]


def test_a_named_file_without_a_flow_is_a_problem_a_folders_is_not(box):
    """Naming a file says that it should hold one."""
    path = box.write("../named.py", "X = 1\n", prelude=False)
    box.write("helper.py", "# speaks of a flow, holds none\nX = 1\n", prelude=False)
    box.daemon(str(box.flows), path)
    assert [row.path for row in box.reader.problems()] == [path]
    assert "holds no flow" in box.reader.problems()[0].error


def test_many_due_runs_of_many_files_all_run(box):
    """More files than processors, all at once."""
    for n in range(6):
        box.write(f"f{n}.py", f"@flow\ndef f{n}(): effect('f{n}')\n")
    box.daemon()

    def insert(connection):
        with transaction(connection):
            return [runs.insert(connection, flow_name=f"f{n}", name="", state=("SCHEDULED", "Scheduled"),
                                actor="tester", at_us=time.time_ns() // 1000, deployment=f"f{n}")
                    for n in range(6) for _ in range(3)]

    for run_id in box.update(insert):
        box.wait_state(run_id, "Completed")
    assert sorted(box.effects()) == sorted(f"f{n}" for n in range(6) for _ in range(3))


def test_only_folders_of_what_is_served_are_watched(box):
    """Not those above them, where others may be busy: a folder is watched because it is named, or holds an import."""
    box.write("parts/words.py", "WORD = 'old'\n", prelude=False)
    path = box.write("etl.py", "from parts.words import WORD\n@flow\ndef etl(): effect(WORD)\n")
    daemon = box.daemon(path)
    wanted = {os.stat(folder).st_ino for folder in (box.flows, box.flows / "parts")}
    box.wait(lambda: watches_of(daemon.pid) >= wanted)
    assert os.stat(box.root).st_ino not in watches_of(daemon.pid)


def watches_of(pid):
    """The inodes of which the kernel tells this process."""
    inodes = set()
    for entry in os.listdir(f"/proc/{pid}/fdinfo"):
        with open(f"/proc/{pid}/fdinfo/{entry}") as file:
            inodes |= {int(line.split("ino:")[1].split()[0], 16) for line in file if line.startswith("inotify")}
    return inodes
