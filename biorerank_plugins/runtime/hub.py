"""Whether the Hugging Face hub can be asked at all: without internet its library tries again for a minute."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

_SECONDS = 10.0


def cache_only(name: str, *, revision: str | None, token: str | bool | None, local_files_only: bool | None) -> bool:
    """Return whether a model must be taken from the local cache: asked for, or the hub does not answer."""
    if local_files_only:
        return True
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi(token=token).model_info(name, revision=revision, timeout=_SECONDS)
    except HfHubHTTPError:
        return False  # it answered: whoever loads the model says what is wrong
    except Exception as error:  # no network, no name server, a proxy, offline mode, …
        logger.warning("The Hugging Face hub does not answer (%s); looking in the local cache.", type(error).__name__)
        return True
    return False
