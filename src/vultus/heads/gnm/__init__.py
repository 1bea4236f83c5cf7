"""GNM Head (Google, 2026; Apache-2.0) from the publisher's `gnm_head.npz`."""

from vultus.heads.gnm.loading import gnm_model, load_gnm

__all__ = ["gnm_model", "load_gnm"]
