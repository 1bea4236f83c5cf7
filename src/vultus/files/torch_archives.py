"""The pickle inside what `torch.save` writes since PyTorch 1.6: an uncompressed zip with `NAME/data.pkl`."""

from __future__ import annotations

import io
import zipfile

from vultus.errors import VultusError

_START = b"PK\x03\x04"
_MAX_MEMBERS = 100_000


def is_torch_archive(content: bytes) -> bool:
    """Whether a file's bytes begin as those of a zip do."""
    return content.startswith(_START)


def archived_pickle(content: bytes, name: str) -> bytes:
    """The bytes of the one `data.pkl` in an archive; `name` is for messages. Tensors lie in other members.

    Raises:
        VultusError: damaged, compressed (which `torch.save` never does), or without exactly one pickle.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            found = [member for member in members if member.filename.endswith("/data.pkl")]
            if len(found) != 1 or len(members) > _MAX_MEMBERS:
                raise VultusError(f"{name}: is an archive with {len(found)} data.pkl in it, not what torch.save writes")
            if found[0].compress_type != zipfile.ZIP_STORED or found[0].file_size > len(content):
                raise VultusError(f"{name}: {found[0].filename} is compressed or larger than the file")
            return archive.read(found[0])
    except VultusError:
        raise
    except Exception as error:  # what the zip reader raises on hostile files is not documented
        raise VultusError(f"{name}: is not a readable archive: {error}") from error
