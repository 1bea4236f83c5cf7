"""Reading files that strangers made and writing files that survive a crash."""

from vultus.files.arrays import npz_names, read_npy, read_npz, write_npz
from vultus.files.atomic import atomic_folder, atomic_path, sha256_of, write_bytes
from vultus.files.paths import safe_path
from vultus.files.pickles import read_object_npy, read_pickle
from vultus.files.records import read_json, write_json, write_table
from vultus.files.tensors import (
    read_checkpoint_tensors,
    read_tensor_notes,
    read_tensors,
    read_weights,
    tensor_shapes,
    tensors_fingerprint,
    write_tensors,
)

__all__ = [
    "atomic_folder",
    "atomic_path",
    "npz_names",
    "read_checkpoint_tensors",
    "read_json",
    "read_npy",
    "read_npz",
    "read_object_npy",
    "read_pickle",
    "read_tensor_notes",
    "read_tensors",
    "read_weights",
    "safe_path",
    "sha256_of",
    "tensor_shapes",
    "tensors_fingerprint",
    "write_bytes",
    "write_json",
    "write_npz",
    "write_table",
    "write_tensors",
]
