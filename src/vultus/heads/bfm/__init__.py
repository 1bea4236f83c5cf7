"""Basel Face Model 2009 in the cut-out that fitters use; non-commercial, made by each user from the licensed files."""

from vultus.heads.bfm.loading import load_bfm

__all__ = ["load_bfm"]
