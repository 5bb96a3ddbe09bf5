"""What anybody may do to rows of runs without their code: requests, retry plans, settling the dead; never imports
what runs code.
"""
