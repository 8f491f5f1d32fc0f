"""Distinguish Ctrl-C and SIGTERM from an exception that a user's value raised."""

from __future__ import annotations

import dis
import signal
import threading


def is_of_a_signal(error: BaseException) -> bool:
    """Was this raised by Ctrl-C or SIGTERM, not by the value that was just read?

    A value may raise the same exceptions, but only by a ``raise``. Python's own handler of
    Ctrl-C raises between any two instructions, and any other handler is in the traceback.
    """
    if isinstance(error, Exception) or threading.current_thread() is not threading.main_thread():
        return False
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    codes = [getattr(getattr(one, "func", one), "__code__", None) for one in handlers]
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code in codes:
            return True
        if at.tb_next is None:
            break
        at = at.tb_next
    if at is None or handlers[0] is not signal.default_int_handler:
        return False
    instruction = dis.opname[at.tb_frame.f_code.co_code[at.tb_lasti]]
    return isinstance(error, KeyboardInterrupt) and instruction != "RAISE_VARARGS"
