"""How this machine is: disks, memory, load and largest processes, every 10 seconds, kept in a small database.

The four readings are taken at the same time. On Linux they come from /proc; elsewhere from what Python and ``ps``
can tell. A nearly full disk gets a warning in the log.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import TypedDict

from flowdeck import Interval, flow, get_run_logger, metric, task

MEBIBYTE = 1024 * 1024
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
NO_DISK = {"squashfs", "iso9660", "nfs", "nfs4", "cifs", "fuse.sshfs"}
"""Always full by nature, or on another machine whose trouble is not ours."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS reading (
    taken_at REAL PRIMARY KEY, load_1 REAL, load_5 REAL, load_15 REAL, cpus INTEGER,
    memory_total_bytes INTEGER, memory_available_bytes INTEGER
);
CREATE TABLE IF NOT EXISTS disk (
    taken_at REAL, mount TEXT, total_bytes INTEGER, free_bytes INTEGER, used_percent REAL,
    PRIMARY KEY (taken_at, mount)
);
CREATE TABLE IF NOT EXISTS process (
    taken_at REAL, pid INTEGER, name TEXT, memory_bytes INTEGER, PRIMARY KEY (taken_at, pid)
);
"""


class Disk(TypedDict):
    """One mounted file system."""

    mount: str
    total_bytes: int
    free_bytes: int
    used_percent: float


class Memory(TypedDict):
    """The machine's memory; ``available_bytes`` is None where the system does not tell."""

    total_bytes: int
    available_bytes: int | None


class Load(TypedDict):
    """Load averages and the processors they are to be divided by."""

    load_1: float
    load_5: float
    load_15: float
    cpus: int


class Process(TypedDict):
    """One process and the memory it holds."""

    pid: int
    name: str
    memory_bytes: int


@task(timeout_seconds=8)
def read_disks() -> list[Disk]:
    """Every local disk once, however often it is mounted."""
    seen: set[int] = set()
    disks: list[Disk] = []
    for mount in _mounts():
        try:
            device, usage = os.stat(mount).st_dev, shutil.disk_usage(mount)
        except OSError:
            continue  # not ours to read, or gone since
        if device in seen or usage.total == 0:
            continue
        seen.add(device)
        used_percent = round(100 * usage.used / max(1, usage.used + usage.free), 1)
        disks.append(Disk(mount=mount, total_bytes=usage.total, free_bytes=usage.free, used_percent=used_percent))
    metric("fullest_disk_percent", max(disk["used_percent"] for disk in disks))
    return disks


def _mounts() -> list[str]:
    """Where disks are mounted, the root first."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ["/"]
    fields = [line.split() for line in lines]
    mounts = [field[1] for field in fields if field[0].startswith("/dev/") and field[2] not in NO_DISK]
    return ["/", *(mount.replace("\\040", " ") for mount in mounts if os.path.isdir(mount.replace("\\040", " ")))]


@task
def read_memory() -> Memory:
    """Total and available memory."""
    total = PAGE_BYTES * os.sysconf("SC_PHYS_PAGES")
    available: int | None = None
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            known = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        total, available = known["MemTotal"], known["MemAvailable"]
    except OSError:
        if "SC_AVPHYS_PAGES" in os.sysconf_names:
            available = PAGE_BYTES * os.sysconf("SC_AVPHYS_PAGES")
    if available is not None:
        metric("memory_used_percent", round(100 * (1 - available / total), 1))
    return Memory(total_bytes=total, available_bytes=available)


@task
def read_load() -> Load:
    """The load averages."""
    load_1, load_5, load_15 = (round(value, 2) for value in os.getloadavg())
    metric("load_1", load_1)
    return Load(load_1=load_1, load_5=load_5, load_15=load_15, cpus=os.cpu_count() or 1)


@task(timeout_seconds=8)
def read_largest_processes(count: int) -> list[Process]:
    """The processes that hold the most memory, largest first."""
    processes = _processes_from_proc() if os.path.isdir("/proc/self") else _processes_from_ps()
    return sorted(processes, key=lambda process: process["memory_bytes"], reverse=True)[:count]


def _processes_from_proc() -> list[Process]:
    processes: list[Process] = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            resident_pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue  # ended since the listing
        processes.append(Process(pid=int(pid), name=name, memory_bytes=resident_pages * PAGE_BYTES))
    return processes


def _processes_from_ps() -> list[Process]:
    listing = subprocess.run(["ps", "-axo", "pid=,rss=,comm="], capture_output=True, text=True, check=True)
    rows = (line.split(None, 2) for line in listing.stdout.splitlines())
    return [Process(pid=int(pid), memory_bytes=int(rss) * 1024, name=os.path.basename(name)) for pid, rss, name in rows]


@task
def warn_of_trouble(disks: list[Disk], memory: Memory, full_percent: float) -> int:
    """Say in the log what a person should look at; returns how much there is."""
    logger = get_run_logger()
    warnings = 0
    for disk in disks:
        if disk["used_percent"] >= full_percent:
            warnings += 1
            free = disk["free_bytes"] // MEBIBYTE
            logger.warning("%s is %.1f %% full: %d MiB left", disk["mount"], disk["used_percent"], free)
    available = memory["available_bytes"]
    if available is not None and available < memory["total_bytes"] / 20:
        warnings += 1
        logger.warning("memory is short: %d MiB available", available // MEBIBYTE)
    return warnings


@task(retries=3, retry_delay_seconds=[0.2, 1, 2])
def load_readings(
    warehouse: str, disks: list[Disk], memory: Memory, load: Load, processes: list[Process], keep_days: float
) -> int:
    """Store what was read in one transaction, drop what is older than ``keep_days``; returns the rows written."""
    now = time.time()
    with closing(sqlite3.connect(warehouse, timeout=5)) as connection, connection:
        connection.executescript(SCHEMA)
        connection.execute(
            "INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?, ?)",
            (now, *load.values(), memory["total_bytes"], memory["available_bytes"]),
        )
        connection.executemany("INSERT INTO disk VALUES (?, ?, ?, ?, ?)", [(now, *disk.values()) for disk in disks])
        connection.executemany(
            "INSERT INTO process VALUES (?, ?, ?, ?)",
            [(now, process["pid"], process["name"], process["memory_bytes"]) for process in processes],
        )
        for table in ("reading", "disk", "process"):
            connection.execute(f"DELETE FROM {table} WHERE taken_at < ?", (now - keep_days * 86_400,))
    return 1 + len(disks) + len(processes)


def default_warehouse() -> str:
    """In the store's folder when FLOWDECK_STORE names one, else in the user's data folder."""
    store = os.environ.get("FLOWDECK_STORE", "")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    folder = Path(store) if store and "://" not in store else Path(data) / "flowdeck"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return str(folder / "box-health.db")


@flow(name="box-health", schedule=Interval(10))
def box_health(
    warehouse: str | None = None, full_percent: float = 90.0, processes: int = 5, keep_days: float = 7.0
) -> int:
    """Read this machine's disks, memory, load and largest processes, and keep them."""
    disks, memory, load = read_disks.submit(), read_memory.submit(), read_load.submit()
    largest = read_largest_processes.submit(processes)
    warn_of_trouble.submit(disks, memory, full_percent)
    return load_readings(warehouse or default_warehouse(), disks, memory, load, largest, keep_days)


if __name__ == "__main__":
    box_health()
