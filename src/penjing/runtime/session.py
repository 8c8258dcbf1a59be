"""A model that remembers: calls that go on from each other, frame by frame.

A saved session is 32 bytes that tell the variant, then the codes of its states: a few hundred bytes that any engine of
the same tray goes on from, here or on another machine.
"""

from typing import TYPE_CHECKING

import numpy as np

from penjing.core.digests import digest_bytes
from penjing.core.errors import InvalidInput
from penjing.program.states import States, calls_left, check_room, initial_states

if TYPE_CHECKING:
    from penjing.runtime.model import Model

_TOLD = 32  # bytes of a digest


class Session:
    """One stream through a model with states; several sessions of one model do not disturb each other.

    Attributes:
        model: what computes it.
        steps: calls since the last reset; those before what `restore` takes up do not count.
    """

    def __init__(self, model: "Model") -> None:
        """Begin a stream.

        Raises:
            InvalidInput: the model has no states.
        """
        if not model.engine.program.states:
            raise InvalidInput(
                f"{model.tray.manifest.name} carries nothing from call to call, so there is no session of it",
                where=model.tray.where,
                hint="call run",
            )
        self.model = model
        self.steps = 0
        self._states: States = {}
        self.reset()

    @property
    def calls_left(self) -> int | None:
        """How many more calls there is room for in what the model remembers of all steps; None where it has no end."""
        return calls_left(self.model.engine.program, self._states)

    def reset(self) -> None:
        """Forget everything: the next step is a first one."""
        self._states = initial_states(self.model.engine.program)
        self.steps = 0

    def step(self, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Real outputs for the next real inputs, one sample, as `Model.run` takes and gives them.

        Raises:
            InvalidInput: wrong number, shape or dtype; NaN or infinity; more than one sample; no room for more steps.
        """
        codes = self.step_codes(*self.model.to_codes(*inputs))
        real = self.model.to_reals(*codes)
        return real[0] if len(real) == 1 else real

    def step_codes(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Output codes for the next input codes, arrays (1, ...).

        Raises:
            InvalidInput: wrong number, shape or dtype; more than one sample; no room for more steps in what the model
                remembers of all of them. The session stays as it was.
        """
        if inputs and len(inputs[0]) != 1:
            raise InvalidInput(f"a session takes one sample at a time, not {len(inputs[0])}", hint="make one for each")
        check_room(self.model.engine.program, self._states)
        outputs, self._states = self.model.engine.step(self._states, *inputs)
        self.steps += 1
        return outputs

    def save(self) -> bytes:
        """What `restore` takes."""
        return self._identity() + b"".join(codes.tobytes() for codes in self._states.values())

    def restore(self, saved: bytes) -> None:
        """Go on from where `save` was called.

        Raises:
            InvalidInput: of another model, cut short, or too long; the session stays as it was.
        """
        if saved[:_TOLD] != self._identity():
            raise InvalidInput("this is no session of this model", where=self.model.tray.where, hint="reset instead")
        states, at = {}, _TOLD
        for name, codes in initial_states(self.model.engine.program).items():
            part = saved[at : at + codes.nbytes]
            if len(part) != codes.nbytes:
                raise InvalidInput(f"a saved session of {len(saved)} bytes is cut short", where=self.model.tray.where)
            states[name] = np.frombuffer(part, codes.dtype).reshape(codes.shape)
            at += codes.nbytes
        if at != len(saved):
            raise InvalidInput(f"a saved session of {len(saved)} bytes is too long", where=self.model.tray.where)
        self._states = states

    def _identity(self) -> bytes:
        tray, variant = self.model.tray, self.model.tray.variant(self.model.variant)
        members = b"".join(digest_bytes(tray.members[name]).encode() for name in (variant.program, variant.weights))
        return bytes.fromhex(digest_bytes(members))
