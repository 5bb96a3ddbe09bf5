"""What anybody may do to rows of runs without their code: requests, retry plans, answers, settling the dead. It imports
nothing of what users write and nothing that runs it, so that a request starts at once; running code asks here, too.
"""
