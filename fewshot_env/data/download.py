"""Fetch data sets that have a stable public address, and check what came."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fewshot_env.errors import FewShotError


@dataclass(frozen=True)
class Remote:
    """A file on the web, with its checksum as "sha256:..." or "md5:..."."""

    url: str
    checksum: str


def download(remotes: tuple[Remote, ...], into: Path) -> None:
    """Fetch `remotes` into the folder `into` with progress; what is there already, and whole, is not fetched again.

    A download that was cut short begins anew. Raises FewShotError where a file can not be had or has
    another checksum; nothing of it stays.
    """
    import pooch
    import requests

    into.mkdir(parents=True, exist_ok=True)
    for left in into.glob("tmp*"):  # what a killed download left
        left.unlink()
    for remote in remotes:
        name = remote.url.rpartition("/")[2].partition("?")[0]
        try:
            fetcher = pooch.HTTPDownloader(progressbar=True, timeout=30)
            pooch.retrieve(remote.url, remote.checksum, name, into, downloader=fetcher)
        except requests.RequestException as error:
            raise FewShotError(
                f"{remote.url} can not be fetched ({_in_words(error)}); try again, or get {name} by hand, then give "
                "its folder with --source"
            ) from error
        except ValueError as error:
            raise FewShotError(
                f"{remote.url} gave a file without the checksum {remote.checksum}, now removed; try again, or get "
                f"{name} by hand, then give its folder with --source"
            ) from error


def _in_words(error: Exception) -> str:
    """The kernel of a chain of network errors, in one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(str(error).split())[:120] or type(error).__name__
