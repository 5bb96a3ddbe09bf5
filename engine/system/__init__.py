"""This machine: clock, settings of the environment, who we are, processes, kernel notices, one event loop; knows no
run.
"""
