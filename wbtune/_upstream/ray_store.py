"""The cluster's key-value store, and whether this process is a driver."""

from __future__ import annotations

from typing import Final

from wbtune._upstream.capabilities import Capability, uses

#: It lives in the memory of the cluster's head process. Neither it nor what is asked of it
#: shows in the session's folder, in ``ps`` or in an environment. Each call waits as long as
#: that process does not answer, and may raise whatever gRPC does
#: [Ray 2.60, ``ray.experimental.internal_kv``, semi-private].
STORE: Final = Capability(
    "handing things over to trials",
    without=(
        "trials do not get the driver's login and options: set WANDB_API_KEY (or WANDB_MODE) for "
        "them by runtime_env, or log in on their nodes by `wandb login`; and setup_wandb is not "
        "to be used next to WandbLoggerCallback or wandb_tuner, as both would write the run"
    ),
    since="ray 2.41",
    needs=(
        *(f"ray.experimental.internal_kv:_internal_kv_{name}" for name in ("put", "get")),
        *(f"ray.experimental.internal_kv:_internal_kv_{name}" for name in ("list", "del")),
    ),
)


@uses(STORE, otherwise=lambda: None)
def job() -> str | None:
    """Return the id of the job that this process works for; None without a cluster or its store.

    A driver has one, and all processes that it starts, directly or not, have the same.
    """
    import ray  # noqa: PLC0415 - needs ray

    return ray.get_runtime_context().get_job_id() if ray.is_initialized() else None


@uses(STORE, otherwise=lambda: False)
def is_driver() -> bool:
    """Return whether this process is the driver of its job [Ray 2.60, ``RuntimeContext``]."""
    import ray  # noqa: PLC0415 - needs ray

    if not ray.is_initialized():  # or to ask would start one
        return False
    return bool(ray.get_runtime_context().worker.mode == ray.SCRIPT_MODE)


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")  # a trial's name may have anything in it


def store(key: str, text: str, *, overwrite: bool = True) -> None:
    """Put a text where every process of the cluster can read it."""
    from ray.experimental import internal_kv  # noqa: PLC0415 - needs ray

    internal_kv._internal_kv_put(  # noqa: SLF001 - see above
        _bytes(key), text.encode(), overwrite=overwrite, namespace=_NAMESPACE
    )


def stored(key: str) -> str | None:
    """Return the text that `store` put under a key; None for nothing."""
    from ray.experimental import internal_kv  # noqa: PLC0415 - needs ray

    text = internal_kv._internal_kv_get(_bytes(key), namespace=_NAMESPACE)  # noqa: SLF001
    return None if text is None else bytes(text).decode()


def stored_keys(prefix: str) -> list[str]:
    """Return the keys that begin with a prefix."""
    from ray.experimental import internal_kv  # noqa: PLC0415 - needs ray

    found = internal_kv._internal_kv_list(_bytes(prefix), namespace=_NAMESPACE)  # noqa: SLF001
    return [bytes(key).decode("utf-8", "surrogatepass") for key in found]


def remove_stored(prefix: str) -> None:
    """Remove all texts whose keys begin with a prefix."""
    from ray.experimental import internal_kv  # noqa: PLC0415 - needs ray

    internal_kv._internal_kv_del(  # noqa: SLF001 - see above
        _bytes(prefix), del_by_prefix=True, namespace=_NAMESPACE
    )


_NAMESPACE = b"wbtune"
