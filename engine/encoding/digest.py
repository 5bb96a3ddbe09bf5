"""BLAKE2b as ``hashlib`` has it, without what ``hashlib`` loads beside it: OpenSSL, 2 ms of every short run's start.

``hashlib`` takes BLAKE2 from nowhere else, so the digests are the same.
"""

from __future__ import annotations

try:
    from _blake2 import blake2b as blake2b
except ImportError:  # a Python that was built without hashes of its own
    from hashlib import blake2b as blake2b
