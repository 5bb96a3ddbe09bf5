"""The process of a root run, and the code host that forks it: taking a run, its session, what is asked of it, its end.

The top of ``running``: it holds the other rooms together and is known to none of them but as a type. It does not decide
what becomes of a task or a flow (``lifecycle`` does): it tells them to end, to wait or to go on, and sees that a
process ends. Rows of other runs are not its own, and nothing here outlives the process but what the store keeps.
"""
