"""Recognise secrets, and mask them in text.

There are three parts: recognising a secret by its name (`looks_secret`), masking passwords
in text (`mask_urls`, `mask_given`, `mask_text`), and remembering the keys that this process
uses (`remember`).
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any, Final

MASK: Final = "****"

#: A name is a secret's if it contains one of these, in lower case and without separators,
_PARTS: Final = (
    *("secret", "passw", "passphrase", "passcode", "pwd", "credential"),
    *("apikey", "accesskey", "privatekey", "signingkey", "encryptionkey", "sshkey", "authkey"),
    *("accountkey", "sharedkey", "masterkey", "servicekey", "storagekey", "licensekey"),
    *("wandbkey", "openaikey", "authorization", "bearer", "connectionstring"),
)
#: or if one of these is among its words,
_WORDS: Final = frozenset({"auth", "creds", "cred", "cookie", "cookies", "jwt", "pswd", "psw"})
#: or if it is "pass", alone or after one of these; a "forward pass" is not a secret.
_PASS_OF: Final = frozenset(
    {"db", "user", "http", "ftp", "smtp", "mail", "root", "admin", "sudo", "my", "mysql", "pg"}
) | frozenset({"postgres", "redis", "proxy", "basic"})
#: "token" names a secret, but "tokenizer" and the tokens of a vocabulary do not.
_TOKEN: Final = re.compile(r"token(?!i[sz])")
_VOCABULARY: Final = re.compile(r"(pad|eos|bos|unk|sep|cls|mask|image|audio)_?tokens?$")

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")

#: ``user:password@`` in a URL. The user is kept, unless it is as long as a token. A password
#: may contain characters that a URL forbids; ``host:80/path@x`` contains no password.
_USERINFO: Final = re.compile(
    r"""//(?P<user>[^\s/@:'"<>]*)
        (?P<password>:(?!\d{1,5}(?:[/?\#\s]|$))(?:(?!://)[^\s'"<>])*)?@""",
    re.VERBOSE,
)
_LONG_USER: Final = 20
#: The address of a Go database driver: ``user:password@tcp(host)/db``.
_GO_DSN: Final = re.compile(r"(?P<user>[\w.+-]+):[^\s:/'\"]+@(?=(?:tcp|udp|unix)\()")

_VALUE: Final = r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^\s,;&)}\]'"]+)"""
_NAME: Final = r"(?P<name>[A-Za-z][\w.-]*)"
#: ``--api-key=x``, ``?token=x``, ``'password': 'x'`` (JSON, the `repr` of a dict).
_GIVEN: Final = re.compile(
    rf"""(?P<before>{_NAME}(?:\s?=\s?|["']\s*:\s*(?=["'])))(?P<value>{_VALUE})"""
)
#: The same, and also ``password: x`` (YAML, a message).
_GIVEN_IN_PROSE: Final = re.compile(rf"""(?P<before>{_NAME}["']?\s*[=:]\s*)(?P<value>{_VALUE})""")

#: ``Authorization: Bearer x``; anything shorter is an ordinary word.
_BEARER: Final = re.compile(r"""\b(?P<scheme>[Bb]earer\s+)[^\s,;'"]{8,}""")

_NOTHING: Final = frozenset({"None", "True", "False", "null", MASK})
#: ``AuthError: why`` does not give a value to a name.
_KINDS_OF_ERRORS: Final = ("Error", "Exception", "Warning")

#: Variables of shells that are no secrets, in spite of their names.
_PATHS: Final = frozenset({"PWD", "OLDPWD", "SSH_AUTH_SOCK", "XAUTHORITY"})

#: The API keys of this process; kept in memory only, as in `credentials`.
_KNOWN: Final[set[str]] = set()
#: Shorter text may be an ordinary word, which is in many texts.
_LONG_ENOUGH: Final = 12


@functools.lru_cache(maxsize=4096)
def looks_secret(name: str) -> bool:
    """Does this look like the name of a secret?

    >>> [looks_secret(name) for name in ("WANDB_API_KEY", "api.key", "dbPwd", "http_auth")]
    [True, True, True, True]
    >>> [looks_secret(name) for name in ("lr", "tokenizer", "author", "pad_token", "n_passes")]
    [False, False, False, False, False]
    """
    words = [word.lower() for word in _WORD.findall(name)]
    compact = "".join(words)
    if any(part in compact for part in _PARTS) or not _WORDS.isdisjoint(words):
        return True
    if _TOKEN.search(compact) and not _VOCABULARY.match("_".join(words)):
        return True
    ends_in_pass = words[-1:] == ["pass"] and (len(words) == 1 or words[-2] in _PASS_OF)
    return ends_in_pass or compact.removesuffix("pass") in _PASS_OF - {compact}


def mask_urls(text: str) -> str:
    """The text without the passwords of its URLs.

    >>> mask_urls("see postgres://me:hunter2@db/x and http://host:80/a@b")
    'see postgres://me:****@db/x and http://host:80/a@b'
    """
    if "@" not in text or ("//" not in text and "(" not in text):
        return text
    text = _USERINFO.sub(_without_password, text)
    return _GO_DSN.sub(rf"\g<user>:{MASK}@", text)


def _without_password(found: re.Match[str]) -> str:
    user, rest = found["user"], found["password"]
    if len(user) >= _LONG_USER or (rest == ":" and user):
        user = MASK
    return f"//{user}@" if rest is None else f"//{user}:{MASK}@"


def without_userinfo(url: str) -> str:
    """A URL without its user and password.

    >>> without_userinfo("https://me:hunter2@wandb.example.com/api")
    'https://wandb.example.com/api'
    """
    return re.sub(r"//[^/?#]*@", "//", url, count=1)


def without_login(settings: dict[str, Any]) -> dict[str, Any]:
    """W&B's settings with no login in the server's address; wandb logs in by its key alone."""
    url = settings.get("base_url")
    return {**settings, "base_url": without_userinfo(url)} if isinstance(url, str) else settings


def mask_given(text: str) -> str:
    """The text of a config with the values masked that it gives to names of secrets.

    >>> mask_given("train.py --api-key=abc --lr=1")
    'train.py --api-key=**** --lr=1'
    """
    text = _BEARER.sub(rf"\g<scheme>{MASK}", text)
    if "=" not in text and ":" not in text:
        return text
    return _GIVEN.sub(_masked_value, text)


def mask_text(text: str) -> str:
    """A message, a traceback or an object's text with its secrets masked.

    >>> mask_text("Login(user='me', password='hunter2')")
    "Login(user='me', password='****')"
    """
    for key in known():
        if key in text:
            text = text.replace(key, MASK)
    text = _BEARER.sub(rf"\g<scheme>{MASK}", text)
    return mask_urls(_GIVEN_IN_PROSE.sub(_masked_value, text))


def _masked_value(found: re.Match[str]) -> str:
    name, value = found["name"], found["value"]
    if not looks_secret(name) or value in _NOTHING or name.endswith(_KINDS_OF_ERRORS):
        return found[0]
    if "token" in name.lower() and len(value) < _LONG_ENOUGH and not _is_given_text(found):
        return found[0]  # max_tokens=5; "unexpected token: x"
    quote = value[0] if value[0] in "\"'" else ""
    return f"{found['before']}{quote}{MASK}{quote}"


def _is_given_text(found: re.Match[str]) -> bool:
    is_given = "=" in found["before"] or found["before"].rstrip()[-2:-1] in {'"', "'"}
    return is_given and not found["value"].isdigit()


def remember(key: str) -> None:
    """Keep this key out of every text that `mask_text` sees in this process."""
    if len(key) >= _LONG_ENOUGH:
        _KNOWN.add(key)


def known() -> set[str]:
    """The secrets that this process knows: the keys it remembers, and its environment's."""
    found = {text for name, text in os.environ.items() if looks_secret(name) and name not in _PATHS}
    return _KNOWN | {text for text in found if len(text) >= _LONG_ENOUGH}
