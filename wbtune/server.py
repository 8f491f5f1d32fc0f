"""Ask the W&B server, before wandb-core does: is it there, does it take the key, whose is this run?

wandb-core waits a minute and a half for a server that is away and then keeps the run's id
locked, and it continues whatever run has the id that it is given. Two small questions,
asked first, answer in seconds.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import logging
import ssl
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from wbtune.errors import CredentialsError, ServerUnreachableError

if TYPE_CHECKING:
    from wbtune.credentials import Secret

logger = logging.getLogger("wbtune")

#: Seconds that one question may take.
ANSWER_S: Final = 5.0
#: Seconds between the first two attempts; doubled each time.
RETRY_S: Final = 0.5

_REFUSED: Final = frozenset({401, 403})
_BUSY: Final = 429
_BROKEN: Final = 500

_VIEWER: Final = "query Viewer { viewer { id entity } }"
# As wandb-core asks before it resumes a run, for the config.
_RUN: Final = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) { id name config }
  }
}"""


class Server:
    """A W&B server, and a key for it.

    Args:
        base_url: where it is: ``https://api.wandb.ai``, or a self-hosted one.
        secret: the key.
        patience: seconds for which a question is repeated while the server is away or busy.
    """

    def __init__(self, base_url: str, secret: Secret, patience: float) -> None:
        self._base_url = base_url.rstrip("/")
        self._secret = secret
        self._patience = patience

    def check(self) -> None:
        """Is the server there, and does it take the key?

        Raises:
            ServerUnreachableError: when it is away or broken.
            CredentialsError: when it refuses the key.
        """
        data = self._ask(_VIEWER, {})
        if data is not None and not data.get("viewer"):
            raise CredentialsError(f"{self._base_url} does not know the API key")

    def run_config(self, entity: str | None, project: str, run_id: str) -> dict[str, Any] | None:
        """The config of the run that has this id; None when there is none.

        Raises:
            ServerUnreachableError: when the server is away or broken.
            CredentialsError: when it refuses the key.
        """
        names = {"entity": entity, "project": project, "name": run_id}
        model = (self._ask(_RUN, names) or {}).get("model") or {}
        bucket = model.get("bucket")
        if not bucket:
            return None
        config: Any = {}
        with contextlib.suppress(ValueError, TypeError):  # not a config of wandb's, so not ours
            config = json.loads(bucket.get("config") or "{}")
        items = config.items() if isinstance(config, dict) else ()
        return {key: item.get("value") for key, item in items if isinstance(item, dict)}

    def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        deadline = time.monotonic() + self._patience
        wait = RETRY_S
        while True:
            try:
                return self._once(query, variables, max(0.1, deadline - time.monotonic()))
            except ServerUnreachableError:
                if time.monotonic() + wait >= deadline:
                    raise
            time.sleep(wait)
            wait *= 2

    def _once(self, query: str, variables: dict[str, Any], left: float) -> dict[str, Any] | None:
        """One question; None when only wandb itself can talk to this server (TLS)."""
        credentials = base64.b64encode(f"api:{self._secret.reveal()}".encode()).decode()
        operation = query.replace("(", " ").split(maxsplit=2)[1]
        request = urllib.request.Request(  # noqa: S310 - the user's own server
            f"{self._base_url}/graphql",
            json.dumps(
                {"operationName": operation, "query": query, "variables": variables}
            ).encode(),
            {"Content-Type": "application/json"},
        )
        # A redirection to another host must not take the key along.
        request.add_unredirected_header("Authorization", f"Basic {credentials}")
        try:
            with urllib.request.urlopen(request, timeout=min(ANSWER_S, left)) as response:  # noqa: S310
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _REFUSED:
                msg = f"{self._base_url} refuses the API key (HTTP {error.code})"
                raise CredentialsError(msg) from None
            if error.code == _BUSY or error.code >= _BROKEN:
                msg = f"the W&B server {self._base_url} answers with HTTP {error.code}"
                raise ServerUnreachableError(msg) from None
            logger.info("wbtune: %s answers with HTTP %d", self._base_url, error.code)
            return None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLError):
                return None  # wandb-core has certificates of its own
            msg = f"the W&B server {self._base_url} can't be reached ({reason})"
            raise ServerUnreachableError(msg) from None
        data = answer.get("data") if isinstance(answer, dict) else None
        return data if isinstance(data, dict) else None
