"""What users write: flows, tasks, transactions, their options and policies. Nothing here runs or stores anything: what
a call of it sets off is reached through ``engine.py``, ``prefect1.py`` and ``serving.py``, its doors, and only there.
"""
