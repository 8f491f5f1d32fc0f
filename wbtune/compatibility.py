"""`capabilities`: what works with the installed releases of Ray and wandb."""

from __future__ import annotations

from wbtune._upstream.capabilities import Capability, every


def capabilities() -> list[Capability]:
    """Return what wbtune can do with the installed Ray and wandb, and what is lost with them.

    Every row, config, summary and exit code is logged by what is public in Ray and wandb, with any
    release since Ray 2.41 and wandb 0.22. What needs more than that is a capability: where a
    release lacks it, the driver says once what that means, and this list says why.

    Returns:
        One entry for each, with these attributes: ``name`` (what it is), ``is_here`` (whether it
        works here), ``without`` (what is lost where it does not), ``reason`` (why it does not:
        the names that are missing, or the error), ``since`` (the oldest release that has it),
        ``needs`` (the private names of Ray and wandb that it stands on).

    Runs on: anywhere; it looks at this process's Ray and wandb, and imports both.

    Examples:
        >>> import wbtune
        >>> [one.name for one in wbtune.capabilities() if not one.is_here]
        []

    Source: docs/compatibility.md in the repository.
    """
    return every()
