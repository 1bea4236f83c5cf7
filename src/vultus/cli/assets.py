"""vultus assets"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def assets(
    folder: Positional[Path | None] = None, *, convert: Annotated[Path | None, arg(metavar="FOLDER")] = None
) -> None:
    """List the head models, networks and data sets that Vultus knows, their terms, and which of them a folder holds.

    Files are recognised by what is in them, not by their names. Nothing is downloaded and nothing in a file is run.

    Args:
        folder: Where to look, five levels deep; default: list everything that is known.
        convert: Write what is found as plain arrays into this folder, so that pickles are opened only once.
    """
    from vultus.cli.terminal import progress_bars
    from vultus.errors import VultusError
    from vultus.workflows.asset_list import ASSETS
    from vultus.workflows.assets import convert_asset, find_assets, missing_assets

    if folder is None:
        for asset in ASSETS:
            print(f"{asset.title}\n    for      {asset.used_by}\n    files    {', '.join(asset.files) or '-'}")
            print(f"    licence  {asset.license}\n    from     {asset.source}")
        return
    with progress_bars() as progress:
        found = find_assets(folder, progress=progress)
    for item in found:
        print(f"{item.asset.title:<40} {item.path}")
        print(f"    licence  {item.asset.license}")
        if item.sha256:
            print(f"    sha256   {item.sha256}")
        if item.note:
            print(f"    note     {item.note}")
        if convert is not None:
            try:
                written = convert_asset(item, convert)
            except VultusError as error:  # one damaged file keeps none of the others from being converted
                print(f"    failed   {error}")
            else:
                print(f"    written  {written or '- (nothing to convert)'}")
    missing = missing_assets(found)
    print(f"{len(found)} found; not found: {', '.join(asset.title for asset in missing)}")


COMMAND = assets
