"""How many threads a process may use at this moment, said by the process that started it: a core that falls free is of use at
once.
"""

import mmap
import os
import tempfile


class Share:
    """A number from 1 to 255 that two processes see: 1 at first, changed by the one, read by the other.

    The second gets the `descriptor` of the first, which it must have inherited.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            with tempfile.TemporaryFile() as file:
                file.write(b"\1")
                file.flush()
                self.descriptor = os.dup(file.fileno())
        else:
            self.descriptor = descriptor
        self._memory = mmap.mmap(self.descriptor, 1)

    def threads(self) -> int:
        """The number."""
        return self._memory[0]

    def give(self, threads: int) -> None:
        """Change the number."""
        self._memory[0] = max(1, min(threads, 255))

    def close(self) -> None:
        """For the one that made it: the other has what it inherited."""
        self._memory.close()
        os.close(self.descriptor)
