"""The table of a measurement of training speed, on a CPU or a GPU: printed, or written into docs/speed.md.

`python benchmarks/speed_table.py TABLE.parquet [docs/speed.md [MARK]]`: in the place of the table with that mark.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from models import SIZES

HEADER = "| model | implementation | steps/s, all cores: median (range) | times naive | times best JAX | MB per process | data |"
GPU_HEADER = (
    "| model | seeds | PyTorch captured | JAX, the best form | CUDA kernel | drawing too: median (range) | of the peak | MB |"
)
#: how JAX makes steps: one call each, or a hundred in one call
JAX = ("jax step", "jax scan")


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
        digits = 1 if own.median() >= 10 else 2
        lines.append(f"| {model} | {name} | {_spread(own, digits)} | {ratios} | {rows['megabytes'].max():.0f} | {data} |")
    return "\n".join([*lines, "", _peak(speed, facts), _conditions(facts, speed["model"])])


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


def _conditions(facts: dict[str, Any], models: pd.Series) -> str:
    words = {"batch": "batch", "time": "T", "n_state": "n_s"}
    others = [
        f"{name}: {', '.join(f'{words[what]} {size}' for what, size in sizes.items())}"
        for name, sizes in SIZES.items()
        if name in set(models)
    ]
    where = f"{facts['cores']} cores of {facts['cpu']}, commit {(facts['commit'] or 'unknown')[:10]}, {facts['finished'][:10]}"
    load = f"; load {facts['load_before']:.1f} before it" if "load_before" in facts else ""
    sizes = "; ".join(["Batch 256, T 50", *others])
    return f"{sizes}; {facts['rounds']} rounds of {facts['seconds']:g} s; {where}{load}."


def gpu_table(frame: pd.DataFrame, facts: dict[str, Any]) -> str:
    """Markdown: steps of one seed per second, by model and stacked seeds; `-` for what was not measured."""
    lines = _head(GPU_HEADER)
    for (model, seeds), rows in frame.groupby(["model", "seeds"], sort=False):
        speeds = {variant: of_variant["steps_per_second"] for variant, of_variant in rows.groupby("variant")}
        drawing, jax = speeds.get("philox"), [speeds[variant].median() for variant in JAX if variant in speeds]
        medians = [speeds[variant].median() if variant in speeds else None for variant in ("captured", "cuda")]
        operations = facts["operations"].get(model)
        share = None if operations is None or drawing is None else drawing.median() * operations / facts["peak"]
        own = rows.loc[rows["variant"] == "philox", "megabytes"]
        numbers = [_rounded(medians[0]), _rounded(max(jax, default=None)), _rounded(medians[1])]
        numbers.append("-" if drawing is None else _spread(drawing, 0))
        numbers += ["-" if share is None else f"{100 * share:.0f} %", _rounded(own.max() if len(own) else None)]
        lines.append("| " + " | ".join([str(model), str(seeds), *numbers]) + " |")
    peak = f"{facts['device']}, whose peak of fused multiply-adds was measured: {facts['peak'] / 1e12:.1f} TFLOP/s."
    left_out = f" Left out for want of time: {', '.join(facts['left_out'])}." if facts["left_out"] else ""
    return "\n".join([*lines, "", f"{peak} PyTorch {facts['torch']}. {_conditions(facts, frame['model'])}{left_out}"])


def _rounded(number: float | None) -> str:
    return "-" if number is None else f"{number:.0f}"


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
    mark = sys.argv[3] if len(sys.argv) > 3 else mark
    text = write(pd.read_parquet(table), facts)
    if len(sys.argv) > 2:
        readme = Path(sys.argv[2])
        readme.write_text(replace_table(readme.read_text(), text, mark))
    else:
        print(text)


if __name__ == "__main__":
    main()
