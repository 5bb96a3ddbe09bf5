"""``flow.serve()``, ``flow.to_deployment()`` and ``serve()``: a script that is a daemon for its own flows.

    if __name__ == "__main__":
        etl.serve(name="nightly", cron="0 6 * * *", parameters={"source": "eu"})

It is ``flowdeck daemon`` on the flow's file, with deployments that the script names beside those of the file itself.
Runs are processes of their own, as with any daemon: they load the file anew and do not share the script's memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .. import context
from ..control.deployable import Deployment
from ..errors import FlowdeckError, OptionError, UsageError

if TYPE_CHECKING:
    from ..authoring.flows import FunctionFlow


def to_deployment(
    flow: FunctionFlow[..., Any],
    name: str | None = None,
    *,
    interval: Any = None,
    cron: Any = None,
    rrule: Any = None,
    schedule: Any = None,
    schedules: Iterable[Any] | None = None,
    paused: bool = False,
    parameters: dict[str, Any] | None = None,
    description: str | None = None,
    tags: Iterable[str] | None = None,
    version: str | None = None,
    concurrency_limit: int | None = None,
    global_limit: int | None = None,
) -> Deployment:
    """A deployment of ``flow``; at most one of the five ways to give a schedule. Raises ``UsageError`` for bad input.

    ``interval`` in seconds or a timedelta, ``cron`` and ``rrule`` a text or a list of them, else schedule objects.
    Without any the deployment has the schedules of the flow, which then fire under its name only.
    """
    given = [value for value in (interval, cron, rrule, schedule, schedules) if value is not None]
    if len(given) > 1:
        raise OptionError(f"{flow.name}: give one of interval, cron, rrule, schedule and schedules, not {len(given)}")
    path = getattr(sys.modules.get(flow.__module__ or ""), "__file__", None)
    if path is None or not os.path.isfile(path):
        raise UsageError(f"{flow.name}: only a flow that stands in a file can be served, since its runs load that file")
    if parameters:
        flow.parameters.check_names(parameters)
    limit = concurrency_limit if concurrency_limit is not None else global_limit
    changed: dict[str, Any] = {"schedule": None, "schedules": given[0]} if given else {}
    if tags is not None:
        changed["tags"] = tags
    if description is not None:
        changed["description"] = description
    if version is not None:
        changed["version"] = version
    if limit is not None:
        changed["concurrency_limit"] = limit
    return Deployment(
        flow.with_options(**changed), name or flow.name, os.path.abspath(path), dict(parameters or {}), paused,
        has_flows_schedules=not given,
    )


def serve(*deployments: Deployment, limit: int | None = None) -> None:
    """Be the daemon of these deployments' files until SIGINT or SIGTERM; at most ``limit`` runs at once.

    Does nothing while the file is being loaded for a run. Raises ``NotAllowed`` when the store has a daemon already.
    """
    if context.is_loading():
        return
    if not deployments:
        raise UsageError("serve() needs deployments: serve(my_flow.to_deployment(name=…), …)")
    for given in deployments:
        if not isinstance(given, Deployment):
            raise OptionError(f"serve() takes what flow.to_deployment() gives, not {given!r}")
    from ...store.location import settled_store
    from ..daemon.daemon import run_daemon
    from ..running.output.echo import for_terminal

    names = [deployment.name for deployment in deployments]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"serve(): two deployments are named {name!r}; give one another name")
    try:
        run_daemon(settled_store(), sorted({deployment.path for deployment in deployments}), limit=limit,
                   deployments=deployments)
    except FlowdeckError as error:
        sys.stderr.write(f"flowdeck: {for_terminal(str(error))}\n")
        raise SystemExit(error.exit_code) from None
