"""Worker that measures the peak rate of fused multiply-adds of a core, compiled as the native kernel is."""

import argparse
import ctypes
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from mesaopt.backends.native.build import FLAGS, TARGET_FLAGS, compiler

SOURCE = Path(__file__).with_name("peak.cpp")
ROUNDS, BLOCKS = 2_000_000, 51


def build(folder: str) -> ctypes.CDLL:
    library = Path(folder) / "peak.so"
    command = [*compiler(), *FLAGS, *TARGET_FLAGS.get(platform.machine(), ()), str(SOURCE), "-o", str(library)]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.multiply_adds.restype = ctypes.c_double
    return loaded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--job", metavar="JSON")
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        library, numbers = build(folder), (ctypes.c_float * 2)(0.5, 1e-3)
        print("ready", flush=True)
        sys.stdin.readline()
        rates = []
        for _ in range(BLOCKS):
            start = time.perf_counter()
            operations = library.multiply_adds(ctypes.c_long(ROUNDS), numbers)
            rates.append(operations / (time.perf_counter() - start))
    # the median of short blocks: what is interrupted does not count, nor what ran when the other cores had finished
    print(json.dumps({"operations_per_second": statistics.median(rates)}), flush=True)


if __name__ == "__main__":
    main()
