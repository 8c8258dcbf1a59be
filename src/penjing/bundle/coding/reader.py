"""Small numbers in few bytes: seven bits in each, the lowest first, the eighth where more follow."""

_MOST_BYTES = 5


class ReaderFault(ValueError):
    """Bytes that end too early, or a number beyond 32 bits or in more bytes than it needs."""


class Reader:
    """Takes bytes from the front."""

    def __init__(self, data: memoryview, at: int = 0) -> None:
        self.data = data
        self.at = at

    def byte(self) -> int:
        """The next byte; ReaderFault where there is none."""
        if self.at == len(self.data):
            raise ReaderFault("it is cut short")
        self.at += 1
        return self.data[self.at - 1]

    def take(self, n: int) -> bytes:
        """The next n bytes; ReaderFault where there are fewer."""
        if n > len(self.data) - self.at:
            raise ReaderFault("it is cut short")
        self.at += n
        return bytes(self.data[self.at - n : self.at])

    def varint(self) -> int:
        """The next number; ReaderFault where there is none."""
        value = 0
        for i in range(_MOST_BYTES):
            byte = self.byte()
            value |= (byte & 127) << 7 * i
            if byte < 128:
                if value >> 32 or (i and not byte):
                    break
                return value
        raise ReaderFault("a number is beyond 32 bits, or longer than it need be")


def to_varint(value: int) -> bytes:
    """The bytes of a number in 0..2^32 - 1."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))
