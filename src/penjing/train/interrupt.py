"""Ctrl-C at a moment of the program's choosing."""

import signal
import threading
from types import FrameType


class HeldInterrupt:
    """Inside this context a first Ctrl-C waits until it is asked for, or until the end; a second one does not wait.

    A training needs this: in the middle of an optimizer's step, weights and momentum do not belong together.
    """

    def __init__(self) -> None:
        self._pending = False
        self._installed = False

    def __enter__(self) -> "HeldInterrupt":
        in_main_thread = threading.current_thread() is threading.main_thread()
        # A handler of the caller's own stays in charge.
        if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._hold)
            self._installed = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if kind is None:
            self.raise_if_pending()

    def raise_if_pending(self) -> None:
        """Raise KeyboardInterrupt when Ctrl-C was pressed."""
        if self._pending:
            raise KeyboardInterrupt

    def _hold(self, _signal: int, _frame: FrameType | None) -> None:
        self.raise_if_pending()
        self._pending = True
