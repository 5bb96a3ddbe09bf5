"""The headless engine: makes runs when schedules say so, claims what is due, starts code hosts, looks after processes.

Works on rows and processes only. It may not import a user's file, nor anything of ``authoring``, ``running``, ``sdk``
or ``prefect1``: code of users runs in processes that are started by name (``hosts``). Time is handed in from above: who
decides here is told ``now`` and reads no clock, except the loop's timers.
"""
