"""Download data sets that have a stable public address, and verify their checksums."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fewshot_env.errors import FewShotError


@dataclass(frozen=True)
class Remote:
    """A file on the web: its address and its checksum, "sha256:..." or "md5:..."."""

    url: str
    checksum: str


def download(remotes: tuple[Remote, ...], into: Path) -> None:
    """Download files, with a progress bar; complete files that are there already are not downloaded again.

    An interrupted download starts again from the beginning.

    Args:
        remotes: the files.
        into: the folder to put them into; it is created where missing.

    Raises:
        FewShotError: where a file cannot be downloaded or has another checksum; nothing of it is kept.
    """
    import pooch
    import requests

    into.mkdir(parents=True, exist_ok=True)
    for left in into.glob("tmp*"):  # left by a killed download
        left.unlink()
    for remote in remotes:
        name = remote.url.rpartition("/")[2].partition("?")[0]
        try:
            fetcher = pooch.HTTPDownloader(progressbar=True, timeout=30)
            pooch.retrieve(remote.url, remote.checksum, name, into, downloader=fetcher)
        except requests.RequestException as error:
            raise FewShotError(
                f"{remote.url} cannot be downloaded ({_root_cause(error)}); try again, or download {name} "
                "yourself and give its folder with --source"
            ) from error
        except ValueError as error:
            raise FewShotError(
                f"{remote.url} gave a file without the checksum {remote.checksum}, now removed; try again, or get "
                f"{name} yourself and give its folder with --source"
            ) from error


def _root_cause(error: Exception) -> str:
    """The message of the first of a chain of network errors, in one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(str(error).split())[:120] or type(error).__name__
