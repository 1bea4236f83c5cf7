"""What is inside a file that `torch.save` wrote since PyTorch 1.6: an uncompressed zip of a pickle and raw numbers."""

from __future__ import annotations

import io
import zipfile

from vultus.errors import VultusError

_START = b"PK\x03\x04"
_MAX_MEMBERS = 100_000


def is_torch_archive(content: bytes) -> bool:
    """Whether a file's bytes begin as those of a zip do."""
    return content.startswith(_START)


class TorchArchive:
    """An archive's pickle, `NAME/data.pkl`, and the numbers of its tensors, `NAME/data/KEY`.

    Args:
        content: the file's bytes. name: for messages.

    Raises:
        VultusError: damaged, compressed (which `torch.save` never does), or without exactly one pickle.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self._name, self._size = name, len(content)
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(content))
            members = self._archive.infolist()
        except Exception as error:  # what the zip reader raises on hostile files is not documented
            raise VultusError(f"{name}: is not a readable archive: {error}") from error
        found = [member.filename for member in members if member.filename.endswith("/data.pkl")]
        if len(found) != 1 or len(members) > _MAX_MEMBERS:
            raise VultusError(f"{name}: is an archive with {len(found)} data.pkl in it, not what torch.save writes")
        self._folder = found[0].removesuffix("data.pkl")
        order = f"{self._folder}byteorder"
        if order in self._archive.namelist() and self._member(order).strip() != b"little":
            raise VultusError(f"{name}: was written on a machine with another byte order")
        self.pickle = self._member(found[0])

    def storage(self, key: str) -> bytes:
        """The numbers of a tensor. Raises VultusError if they are missing or damaged."""
        return self._member(f"{self._folder}data/{key}")

    def _member(self, member: str) -> bytes:
        try:
            about = self._archive.getinfo(member)
            if about.compress_type != zipfile.ZIP_STORED or about.file_size > self._size:
                raise VultusError(f"{self._name}: {member} is compressed or larger than the file")
            return self._archive.read(about)
        except VultusError:
            raise
        except Exception as error:
            raise VultusError(f"{self._name}: {member} cannot be read: {error}") from error
