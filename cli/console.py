"""``tui``, and no command at all: the console, where there is a terminal."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .opening import folder_of
from .output import Output


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``tui``."""
    parser.add_argument("start", metavar="WORDS", nargs="*", help="where to begin, as after `:` in the console")
    parser.add_argument("--read-only", action="store_true", help="look, but ask for nothing")
    parser.add_argument("--ascii", action="store_true", help="no characters beyond ASCII")
    parser.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    parser.add_argument("--wire", choices=("thin", "stock"), default="thin",
                        help="stock: every repaint in full, should a terminal not show the thin one well")
    parser.set_defaults(handler=open_console)


def has_terminal() -> bool:
    """Whether a person sits at both ends of a terminal that can be drawn on (``TERM=dumb`` says it cannot)."""
    both_ends = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    return both_ends and os.environ.get("TERM") != "dumb"


def refuse_without_terminal(out: Output, instead: str) -> int:
    """Say why there is no console, and what works without a terminal; the usage exit code."""
    out.complain(f"the console needs a terminal, and standard input or output is none, or TERM is dumb; {instead}")
    return 2


def open_console(args: argparse.Namespace, out: Output) -> int:
    """Open the console on the store."""
    if not has_terminal():
        return refuse_without_terminal(out, "`flowdeck ls` lists the runs, `flowdeck --help` has the rest")
    from ..tui.app import run_console

    out.flush()
    return run_console(
        folder_of(args), read_only=args.read_only, wire=args.wire, ascii=args.ascii, mouse=not args.no_mouse,
        start=" ".join(args.start) or None,
    )


def open_plain_console(folder: Path, out: Output) -> int:
    """The console with none of its options, for commands that end in it."""
    from .main import parse

    return open_console(parse(["--store", str(folder), "tui"]), out)
