"""Values as bytes, as hashes and as text: codecs, fingerprints, tracebacks, JSON schema; runs no user code but its
reducers.
"""
