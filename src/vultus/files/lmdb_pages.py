"""The pages of an LMDB database (64-bit little-endian, version 1): sizes, kinds and marks."""

from __future__ import annotations

PAGE = 4096
MAGIC, VERSION = 0xBEEFC0DE, 1
HEADER, NODE = 16, 8
BRANCH, LEAF, OVERFLOW, META = 1, 2, 4, 8
BIG = 1
INTEGER_KEYS = 8
NONE = (1 << 64) - 1
MAX_KEY = 511
