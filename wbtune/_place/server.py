"""Ask the W&B server whether it is there, accepts the key, and has a run, before wandb-core does.

wandb-core waits a minute and a half for a server that does not answer, and then keeps the run's id
locked; and it continues any run that has the id which it is given. Two small requests beforehand
give the answer in seconds.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune._data import timeouts
from wbtune._place.transport import Answer, CannotAskError, Transport, UnreadableError
from wbtune.errors import CredentialsError, ServerUnreachableError

if TYPE_CHECKING:
    from wbtune._data.secret import Secret

logger = logging.getLogger("wbtune")


_REFUSED: Final = frozenset({401, 403})
_BUSY: Final = 429
_BROKEN: Final = 500


class RefusedError(Exception):
    """The server does not do what it was asked to; the message has its reason."""


_VIEWER: Final = "query Viewer { viewer { id entity } }"
# The query of wandb-core before it resumes a run, reduced to the config.
_RUN: Final = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) { id name config }
  }
}"""
# The same, and how far the run is; a summary may be large.
_RUN_STATUS: Final = _RUN.replace("{ id name", "{ id name group summaryMetrics historyLineCount")


class RunStatus(NamedTuple):
    """A run as the server has it.

    Attributes:
        group: its group.
        config: its config.
        rows: how many rows it has.
        summary: its summary.
    """

    group: str
    config: dict[str, Any]
    rows: int
    summary: dict[str, Any]


class Server:
    """A W&B server, and a key for it.

    Args:
        base_url: its address: ``https://api.wandb.ai``, or a self-hosted one's.
        secret: the key.
        patience: seconds for which a request is repeated while the server is away or busy.
        settings: W&B settings that were given; the others are this process's own.

    Attributes:
        obstacle: why the last request got no answer that can be used, though wandb itself may be
            able to reach the server; empty if it got one.
    """

    def __init__(
        self,
        base_url: str,
        secret: Secret,
        patience: float,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._transport = Transport(base_url, settings)
        self._secret = secret
        self._patience = patience
        self.obstacle = ""

    def check(self) -> None:
        """Check that the server is there and accepts the key.

        Raises:
            ServerUnreachableError: when it is away or broken.
            CredentialsError: when it refuses the key.
        """
        self._viewer()

    def default_entity(self) -> str | None:
        """The user or team that the key's runs belong to by default.

        Raises:
            ServerUnreachableError: when the server is away or broken.
            CredentialsError: when it refuses the key.
        """
        entity = self._viewer().get("entity")
        return entity if isinstance(entity, str) else None

    def _viewer(self) -> dict[str, Any]:
        """Whose key it is; empty if only wandb itself can ask."""
        data = self._ask(_VIEWER, {})
        viewer = self._part(data, "viewer")
        if data is not None and "viewer" in data and not viewer:
            # Cure: Copy it again from W&B's settings; for a server of your own, set
            #   WANDB_BASE_URL.
            raise CredentialsError(f"{self._transport.shown} does not know the API key")
        return viewer or {}

    def run_config(self, entity: str | None, project: str, run_id: str) -> dict[str, Any] | None:
        """The config of the run with this id; None if there is no such run.

        Raises:
            ServerUnreachableError: when the server is away or broken.
            CredentialsError: when it refuses the key.
        """
        bucket = self._bucket(_RUN, entity, project, run_id)
        return None if bucket is None else _config(bucket)

    def run_status(self, entity: str | None, project: str, run_id: str) -> RunStatus | None:
        """The run with this id, as far as the server has it; None if there is no such run.

        Raises:
            ServerUnreachableError: when the server is away or broken.
            CredentialsError: when it refuses the key.
        """
        bucket = self._bucket(_RUN_STATUS, entity, project, run_id)
        if bucket is None:
            return None
        rows, summary = bucket.get("historyLineCount"), _mapping(bucket.get("summaryMetrics"))
        group = str(bucket.get("group") or "")
        return RunStatus(group, _config(bucket), rows if type(rows) is int else 0, summary)

    def _bucket(
        self, query: str, entity: str | None, project: str, run_id: str
    ) -> dict[str, Any] | None:
        names = {"entity": entity, "project": project, "name": run_id}
        return self._part(self._part(self._ask(query, names), "model"), "bucket") or None

    def do(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Ask the server to do something, once: it may have done it even if no answer arrives.

        Returns:
            The answer's data.

        Raises:
            RefusedError: when the server refuses it, or only wandb itself can reach the server.
            ServerUnreachableError: when it is away or broken.
            CredentialsError: when it refuses the key.
        """
        answer = self._answer(query, variables, timeouts.SERVER_ANSWERS_S)
        if answer is None:
            # Message: a warning by itself.
            # Cause: It is inside another line, as the reason: a kind of proxy or certificate that
            #   only wandb has.
            # Cure: Set HTTPS_PROXY to an http:// proxy, and SSL_CERT_FILE.
            msg = f"{self._transport.shown} can only be reached by wandb itself"
            raise RefusedError(msg)
        content = answer.content if isinstance(answer.content, dict) else {}
        data = content.get("data")
        if answer.status != http.HTTPStatus.OK or content.get("errors") or not data:
            # Message: a warning by itself.
            # Cause: It is inside another line, as the reason: the key may not do this, or the
            #   server is too old.
            # Cure: Ask who runs the server; the runs are not affected.
            msg = f"{self._transport.shown} refuses it ({_reason(answer)})"
            raise RefusedError(msg)
        return self._part(content, "data") or {}

    def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        deadline = time.monotonic() + self._patience
        wait = timeouts.SERVER_RETRY_S
        while True:
            try:
                return self._once(query, variables, max(0.1, deadline - time.monotonic()))
            except ServerUnreachableError:
                if time.monotonic() + wait >= deadline:
                    raise
            time.sleep(wait)
            wait *= 2

    def _once(self, query: str, variables: dict[str, Any], left: float) -> dict[str, Any] | None:
        """The data in the answer to one request; None if only wandb itself can get it."""
        answer = self._answer(query, variables, left)
        if answer is None:
            return None
        if answer.status != http.HTTPStatus.OK:
            self.obstacle = f"it answers with HTTP {answer.status}"
            logger.info("wbtune: %s: %s", self._transport.shown, self.obstacle)
            return None
        content = answer.content if isinstance(answer.content, dict) else {"data": answer.content}
        return self._part(content, "data")

    def _answer(self, query: str, variables: dict[str, Any], left: float) -> Answer | None:
        operation = query.replace("(", " ").split(maxsplit=2)[1]
        content = {"operationName": operation, "query": query, "variables": variables}
        key, shown = self._secret.reveal(), self._transport.shown
        try:
            answer = self._transport.post(
                "/graphql", key, content, min(timeouts.SERVER_ANSWERS_S, left)
            )
        except (ssl.SSLError, CannotAskError) as error:
            # wandb-core has its own certificates, and supports further kinds of proxies.
            self.obstacle = str(error)
            logger.info("wbtune: %s can't be asked (%s)", shown, error)
            return None
        except UnreadableError as error:
            # Cause: WANDB_BASE_URL or a proxy leads to something else.
            # Cure: Check WANDB_BASE_URL, and the proxy.
            msg = f"{shown} does not answer as a W&B server does ({error})"
            raise ServerUnreachableError(msg) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            # Cause: There is no network here, a proxy is missing, or the certificate is not known.
            # Cure: Check the network, HTTPS_PROXY and SSL_CERT_FILE, or log without a server by
            #   mode="offline".
            msg = f"the W&B server {shown} can't be reached ({error or type(error).__name__})"
            raise ServerUnreachableError(msg) from None
        if answer.status in _REFUSED and not answer.redirected:
            # Cure: Copy it again from W&B's settings; for a server of your own, set
            #   WANDB_BASE_URL.
            raise CredentialsError(f"{shown} refuses the API key (HTTP {answer.status})")
        if answer.status == _BUSY or answer.status >= _BROKEN:
            # Cause: The server, or a proxy in front of it, is broken or busy.
            # Cure: Wait, or log without a server by mode="offline".
            msg = f"the W&B server {shown} answers with HTTP {answer.status}"
            raise ServerUnreachableError(msg)
        return answer

    def _part(self, content: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
        """A mapping within an answer; None if there is none."""
        part = None if content is None else content.get(name)
        if part is not None and not isinstance(part, dict):
            got = f"{name} is of type {type(part).__name__}"
            # Cause: WANDB_BASE_URL or a proxy leads to something else.
            # Cure: Check WANDB_BASE_URL, and the proxy.
            msg = f"{self._transport.shown} does not answer as a W&B server does ({got})"
            raise ServerUnreachableError(msg)
        return part


def _config(bucket: dict[str, Any]) -> dict[str, Any]:
    config = _mapping(bucket.get("config"))
    return {key: item.get("value") for key, item in config.items() if isinstance(item, dict)}


def _mapping(text: Any) -> dict[str, Any]:
    """The mapping that is written in JSON; empty for anything else, which is not wandb's."""
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        found = json.loads(text or "{}")
        return found if isinstance(found, dict) else {}
    return {}


def _reason(answer: Answer) -> str:
    """Why a server refuses something: GraphQL's own words, or the HTTP status."""
    content = answer.content if isinstance(answer.content, dict) else {}
    errors = content.get("errors")
    found = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    messages = [one["message"] for one in found if isinstance(one.get("message"), str)]
    return "; ".join(messages) or f"HTTP {answer.status}"
