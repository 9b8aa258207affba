"""Stages, each in a fork that finds nothing of the project but a package of its own.

`python bare_stages.py` imports what they need from elsewhere. Then each line of its input is called: the JSON of `sources` (the
folder of a package `mesaopt`), of the working folder, and of the words after `python -m mesaopt`. What went wrong is answered,
"" if nothing.
"""

import importlib
import json
import os
import sys
import traceback

#: what takes seconds to import; nothing of the project
HEAVY = ("torch", "pandas", "pyarrow.parquet", "safetensors.torch", "jaxtyping", "matplotlib.figure", "seaborn")


def call(sources: str, folder: str, words: list[str]) -> int:
    sys.path.insert(0, sources)
    os.chdir(folder)
    from mesaopt.__main__ import main

    return main(words)


def answer(sources: str, folder: str, words: list[str]) -> str:
    """What a fork said on standard error, if it did not end well."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 99
        os.dup2(writer, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            status = call(sources, folder, words)
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "" if status == 0 else f"exit status {status}: {said}"


def main() -> None:
    for name in HEAVY:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
