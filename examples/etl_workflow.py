"""The smallest ETL there is, in Prefect 1's style: only the import line differs.

The ``with`` block draws the graph and runs nothing; ``flow.run`` runs it. A daemon that imports this file sees the
flow and does not run it: ``flow.run`` does nothing while a file is being loaded.
"""

# ruff: noqa: ANN001, ANN201, D103 (as it was written for Prefect 1)
from flowdeck import Flow, task
from flowdeck.executors import LocalExecutor


@task
def extract():
    return "raw data"


@task
def transform(data):
    return data.upper()


@task
def load(data):
    print(f"Loading data: {data}")


with Flow("ETL Workflow") as flow:
    raw = extract()
    clean = transform(raw)
    load(clean)

flow.run(executor=LocalExecutor())
