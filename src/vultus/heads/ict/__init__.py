"""ICT-FaceKit Light (USC ICT, MIT): the publisher's folder of OBJ files, or one archive of the same shapes."""

from vultus.heads.ict.loading import load_ict

__all__ = ["load_ict"]
