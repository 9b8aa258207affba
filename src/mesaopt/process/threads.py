"""One thread a process: the workflow fills the cores with processes, and threads beyond the cores slow all of them down."""

from collections.abc import MutableMapping

#: what the numerical libraries read when they are loaded
VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
#: what would win over them
EXCEPTIONS = ("MKL_DOMAIN_NUM_THREADS",)


def one_thread(environment: MutableMapping[str, str]) -> None:
    """Whatever `environment` asked for: a process that has it, and has not loaded them yet, gets libraries of one thread."""
    environment.update(dict.fromkeys(VARIABLES, "1"))
    for name in EXCEPTIONS:
        environment.pop(name, None)
