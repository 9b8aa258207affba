"""Python's search for reference cycles, made rare. It costs a short process a third of its time: it begins anew every 700 objects
while PyTorch makes a million, and goes through all of them once more at the end."""

import atexit
import gc

#: new objects before the search begins; it finds next to nothing in any stage, so that memory does not grow
_OBJECTS = 100_000


def search_rarely() -> None:
    """From now on in this process; what is there at its end is left to the system."""
    gc.set_threshold(_OBJECTS, 50, 50)
    atexit.register(gc.freeze)
