"""The table of a measurement of training speed, on a CPU or a GPU: printed, or written into docs/speed.md.

`python benchmarks/speed_table.py TABLE.parquet [docs/speed.md]`
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd

HEADER = "| model | implementation | steps/s, all cores: median (range) | times naive | times best JAX | MB per process | data |"
GPU_HEADER = "| model | seeds | kernel by kernel | captured: median (range) | times | data | MB | CPU kernel, {cores} cores |"


def speed_table(frame: pd.DataFrame, facts: dict[str, Any]) -> str:
    """Markdown: speeds by model and implementation, then what they are worth against the machine's peak."""
    speed = frame[frame["kind"] == "speed"]
    lines = _head(HEADER)
    for (model, variant, processes), rows in speed.groupby(["model", "variant", "processes"], sort=False):
        own = rows.set_index("round")["steps_per_second"]
        of_model = speed[speed["model"] == model]
        naive = of_model[of_model["variant"] == "naive"].set_index("round")["steps_per_second"]
        jax = of_model[of_model["variant"] == "jax"].groupby("round")["steps_per_second"].max()
        to_jax = f"{(own / jax).median():.1f}" if len(jax) else "-"
        name = f"{variant}, {processes} process{'es' if processes > 1 else ''}"
        data = "-" if rows["data_share"].isna().all() else f"{100 * rows['data_share'].median():.1f} %"
        ratios = f"{(own / naive).median():.1f} | {to_jax}"
        lines.append(f"| {model} | {name} | {_spread(own, 1)} | {ratios} | {rows['megabytes'].max():.0f} | {data} |")
    return "\n".join([*lines, "", _peak(speed, facts), _conditions(facts)])


def _head(header: str) -> list[str]:
    return [header, "|---" * header.count(" | ") + "|---|"]


def _spread(values: pd.Series, digits: int) -> str:
    """Median and range."""
    return f"{values.median():.{digits}f} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def _peak(speed: pd.DataFrame, facts: dict[str, Any]) -> str:
    """What the kernel on all cores reaches of it, by model whose operations are counted."""
    peaks = facts["peak_operations_per_second"]
    native = speed[(speed["variant"] == "native") & (speed["processes"] == facts["cores"])]
    shares = []
    for name, count in facts["operations"].items():
        rate = native[native["model"] == name].set_index("round")["steps_per_second"] * count
        share = pd.Series([100 * rate[number] / peak for number, peak in enumerate(peaks)])
        shares.append(f"{name} {share.median():.0f} % ({share.min():.0f} to {share.max():.0f})")
    line = f"Peak of fused multiply-adds: {max(peaks) / 1e9:.0f} GFLOP/s, measured in the same rounds."
    return f"{line} The kernel reaches of it, in products alone: {', '.join(shares)}." if shares else line


def _conditions(facts: dict[str, Any]) -> str:
    where = f"{facts['cores']} cores of {facts['cpu']}, commit {(facts['commit'] or 'unknown')[:10]}, {facts['finished'][:10]}"
    load = f"; load {facts['load_before']:.1f} before it" if "load_before" in facts else ""
    return f"Batch 256, T 50; {facts['rounds']} rounds of {facts['seconds']:g} s; {where}{load}."


def gpu_table(frame: pd.DataFrame, facts: dict[str, Any]) -> str:
    """Markdown: steps of one seed per second, by model and stacked seeds."""
    lines = _head(GPU_HEADER.format(cores=facts["cores"]))
    for model, of_model in frame.groupby("model", sort=False):
        kernel = of_model[of_model["variant"] == "native"]["steps_per_second"].median()
        for seeds, rows in of_model[of_model["variant"] != "native"].groupby("seeds"):
            captured, eager = (rows[rows["variant"] == variant].set_index("round") for variant in ("captured", "eager"))
            own = captured["steps_per_second"]
            times = (own / eager["steps_per_second"]).median()
            data, megabytes = 100 * captured["data_share"].median(), captured["megabytes"].max()
            cells = [model, seeds, f"{eager['steps_per_second'].median():.0f}", _spread(own, 0), f"{times:.1f}"]
            cells += [f"{data:.0f} %", f"{megabytes:.0f}", f"{kernel:.0f}"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, "", f"{facts['device']}, PyTorch {facts['torch']}. {_conditions(facts)}"])


def replace_table(readme: str, table: str, mark: str = "speed") -> str:
    """The text with this table between its marks; raises `ValueError` when it has none."""
    changed, count = re.subn(
        rf"(<!-- {mark}: .*? -->\n).*?(\n<!-- end of {mark} -->)", rf"\g<1>{table}\g<2>", readme, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"no marks of the {mark} table")
    return changed


def main() -> None:
    table = Path(sys.argv[1])
    facts = json.loads(table.with_suffix(".json").read_text())
    mark, write = ("gpu", gpu_table) if "device" in facts else ("speed", speed_table)
    text = write(pd.read_parquet(table), facts)
    if len(sys.argv) > 2:
        readme = Path(sys.argv[2])
        readme.write_text(replace_table(readme.read_text(), text, mark))
    else:
        print(text)


if __name__ == "__main__":
    main()
