"""The process of a root run, and the code host that forks it: taking a run, its session, what is asked of it, its end;
decides no outcome of a task or a flow.

The top of ``running``: it holds the other rooms together and is known to none of them but as a type. It tells tasks and
flows to end, to wait or to go on (what becomes of them ``lifecycle`` decides) and sees that a process ends. Rows of
other runs are not its own, and nothing here outlives the process but what the store keeps.
"""
