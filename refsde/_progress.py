"""A progress bar, if one is asked for."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

__all__ = ["progress_bar"]


def progress_bar(show: bool, total: int | None, unit: str) -> Any:
    """Return a context that gives a tqdm bar, or None where nothing is to be shown."""
    if not show:
        return nullcontext()
    try:
        from tqdm.auto import tqdm
    except ImportError as missing:  # pragma: no cover
        raise ImportError(
            "`progress=True` needs tqdm: pip install 'refsde[experiments]'"
        ) from missing
    return tqdm(total=total, unit=unit)
