"""The chain on a miniature: what runs, what runs again, and what does not (figures 1 and 13 at the smoke scale)."""

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest
from workflow_folder import copy_workflow, planned, snakemake

from mesaopt.store.tables import read_table

SMOKE = ("--config", "scale=smoke")
FIGURES = ("figures/fig1.pdf", "figures/fig13.pdf")


@pytest.fixture(scope="module")
def built(smoke_figures: Path) -> Path:
    """A folder in which both figures are up to date; tests that change it work on a copy."""
    return smoke_figures


@pytest.fixture
def clone(built: Path, tmp_path: Path) -> Path:
    # copy2 keeps the time stamps, which Snakemake compares
    return shutil.copytree(built, tmp_path / "clone", symlinks=True)


def test_the_figures_are_pictures(built: Path) -> None:
    for figure in FIGURES:
        assert (built / figure).read_bytes().startswith(b"%PDF")


def test_a_second_call_does_nothing(built: Path) -> None:
    assert planned(built, *FIGURES, *SMOKE) == {}


def test_another_format_only_draws(built: Path) -> None:
    assert planned(built, "figures/fig1.svg", "figures/fig1.png", *SMOKE) == {"draw_fig1": 2, "publish": 2}


def test_a_new_seed_adds_only_its_jobs(built: Path) -> None:
    jobs = planned(built, *FIGURES, *SMOKE, "seeds=[1,11,111]")
    assert jobs == {
        "sequences": 1,
        "train": 2,
        "evaluate_extract_probe": 1,
        "extract": 1,
        "collect": 2,
        "draw_fig1": 1,
        "draw_fig13": 1,
        "publish": 2,
    }


def test_long_jobs_start_first(tmp_path: Path) -> None:
    """Two cores then stay busy to the end: what is left over is short."""
    output = snakemake(copy_workflow(tmp_path / "clone"), "-n", "figures/fig2.pdf", "figures/fig3.pdf", *SMOKE, "pack=1")
    jobs = re.findall(r"^(?:local)?rule (\w+):\n((?:    .+\n)+)", output, flags=re.MULTILINE)
    priorities = {rule: int(re.findall(r"priority: (\d+)", rest + "priority: 0")[0]) for rule, rest in jobs}
    first = dict.fromkeys(("train", "sequences", "learn"), 2) | dict.fromkeys(("interpolate_match", "evaluate_extract_probe"), 1)
    assert {rule: priority for rule, priority in priorities.items() if priority} == first
    assert {"evaluate", "extract", "collect", "draw_fig3", "publish"} <= set(priorities)


def test_new_seeds_share_a_job_but_never_with_finished_ones(built: Path) -> None:
    jobs = planned(built, "figures/fig1.pdf", *SMOKE, "seeds=[1,11,111,1111]", "pack=4")
    assert jobs["train_linear-lsa-d6_111_to_1111"] == 1
    assert "train" not in jobs


def test_another_pack_size_reruns_nothing(built: Path) -> None:
    assert planned(built, *FIGURES, *SMOKE, "pack=2") == {}


def test_a_plot_option_redraws_one_figure(built: Path) -> None:
    assert planned(built, "figures/fig1.pdf", *SMOKE, "style={band: false}") == {"draw_fig1": 1, "publish": 1}


def test_a_learning_rate_retrains_only_its_run(built: Path) -> None:
    jobs = planned(built, *FIGURES, *SMOKE, "runs={linear/lsa-d6: {training: {lr: 2e-3}}}")
    assert jobs == {"train": 2, "evaluate_extract_probe": 2, "collect": 1, "draw_fig1": 1, "publish": 1}


def test_the_spelling_of_a_number_retrains_nothing(built: Path) -> None:
    assert planned(built, *FIGURES, *SMOKE, "runs={linear/lsa-d6: {training: {lr: 1e-4, weight_decay: 0.10}}}") == {}


def test_a_comment_reruns_nothing(clone: Path) -> None:
    for name in ("data/sequences.py", "training/loop.py", "stages/probe.py", "figures/draw.py"):
        path = clone / "src/mesaopt" / name
        path.write_text(path.read_text() + "\n# a remark\n")
    assert planned(clone, *FIGURES, *SMOKE) == {}


def test_what_is_new_or_only_said_otherwise_reruns_nothing(clone: Path) -> None:
    sources = clone / "src/mesaopt"
    for name in ("data/tasks/new.py", "models/layers/new.py", "models/objectives/new.py", "stages/new.py", "figures/new.py"):
        (sources / name).write_text("x = 1\n")
    for name, old, new in (
        ("process/progress.py", "goes on at step", "continues at step"),
        ("errors.py", "diverged at step", "left the sane range at step"),
        ("models/layers/mesa.py", "LAM_FLOOR = 1e-6", "LAM_FLOOR = 1e-5"),  # no run here has such a layer
        ("data/tasks/contracting.py", "BOUND = 2.0", "BOUND = 3.0"),  # nor this task
    ):
        text = (sources / name).read_text()
        assert old in text
        (sources / name).write_text(text.replace(old, new))
    assert planned(clone, *FIGURES, *SMOKE) == {}


def test_a_change_in_the_equation_of_a_layer_retrains_its_runs(clone: Path) -> None:
    path = clone / "src/mesaopt/models/layers/linear.py"
    path.write_text(path.read_text() + "\nA_NEW_CONSTANT = 1\n")
    jobs = planned(clone, *FIGURES, *SMOKE)
    assert jobs["train"] == 4 and "sequences" not in jobs and "learn" not in jobs


def test_a_change_in_a_generator_retrains(clone: Path) -> None:
    path = clone / "src/mesaopt/data/sequences.py"
    path.write_text(path.read_text() + "\nA_NEW_CONSTANT = 1\n")
    jobs = planned(clone, *FIGURES, *SMOKE)
    assert jobs["train"] == 4
    assert jobs["sequences"] == 2
    assert jobs["learn"] == 2  # for both forms of the preconditioned input


def test_a_change_in_a_figure_retrains_nothing(clone: Path) -> None:
    path = clone / "src/mesaopt/figures/draw.py"
    path.write_text(path.read_text() + "\nA_NEW_CONSTANT = 1\n")
    assert planned(clone, *FIGURES, *SMOKE) == {"draw_fig1": 1, "draw_fig13": 1, "publish": 2}


def test_touching_files_reruns_nothing(clone: Path) -> None:
    for path in [*clone.rglob("*.parquet"), *clone.rglob("*.safetensors"), *clone.rglob("*.json"), *clone.rglob("*.py")]:
        os.utime(path, (time.time(), time.time()))
    assert planned(clone, *FIGURES, *SMOKE) == {}


def test_switching_the_scale_and_back_redraws_nothing(clone: Path) -> None:
    for part in ("tables", "records"):
        shutil.copytree(clone / "results/smoke" / part, clone / "results/recorded" / part)
    jobs = planned(clone, "figures/fig13.pdf", "--config", "scale=recorded")
    assert jobs == {"draw_fig13": 1, "publish": 1}
    snakemake(clone, "figures/fig13.pdf", "--config", "scale=recorded")
    assert planned(clone, "figures/fig13.pdf", *SMOKE) == {"publish": 1}
    snakemake(clone, "figures/fig13.pdf", *SMOKE)
    assert (clone / "figures/fig13.pdf").read_bytes() == (clone / "results/smoke/figures/fig13.pdf").read_bytes()
    assert planned(clone, "figures/fig13.pdf", *SMOKE) == {}


def test_what_is_not_recorded_says_so_in_one_line(clone: Path) -> None:
    output = snakemake(clone, "figures/fig3.pdf", "--config", "scale=recorded", succeed=False)
    lines = [line for line in output.splitlines() if "not recorded yet" in line]
    assert len(lines) == 1
    assert "fig3" in lines[0] and "no results/recorded/" in lines[0]
    assert "Traceback" not in output


def test_every_scale_has_a_complete_plan(built: Path) -> None:
    for scale in ("paper", "laptop", "smoke"):
        jobs = planned(built, "results/paper/figures/fig3.pdf" if scale == "paper" else "all", "--config", f"scale={scale}")
        assert jobs["train"] >= 20 if scale == "paper" else jobs["train"] >= 10


@pytest.mark.parametrize("scale", ["smoke", *(pytest.param(name, marks=pytest.mark.long) for name in ("paper", "laptop"))])
def test_the_control_figures_are_planned_with_what_their_own_task_learned(tmp_path: Path, scale: str) -> None:
    folder, seeds = copy_workflow(tmp_path / "clone"), 5 if scale == "paper" else 2
    config = ("--config", f"scale={scale}", "pack=1")
    jobs = planned(folder, "figures/fig11.pdf", "figures/fig12.pdf", *config)
    analyses = {"evaluate": 3 * seeds, "evaluate_extract": seeds, "evaluate_extract_probe": seeds}
    per_task = {"train": 5 * seeds, "learn": 3, "collect": 1} | analyses
    assert {rule: jobs[rule] for rule in per_task} == {rule: 2 * count for rule, count in per_task.items()}
    for task in ("contracting", "fixed_teacher"):
        probes = f"results/{scale}/runs/{task}/lsa-d6/seed-11/probes.parquet"
        (command,) = re.findall(r"python -P -m mesaopt .*\bprobe --weights .*", snakemake(folder, "-np", probes, *config))
        assert f"--parameters results/{scale}/theory/{task}/proposition2/parameters.parquet" in command
        assert f"--published-parameters results/{scale}/theory/{task}/proposition2-published/parameters.parquet" in command
        # an identity says only what differs from the default, 0.001
        found = re.findall(r'"(inverse_lam|fixed_inverse_lam)":([^,]+)', command)
        used = "1.333" if task == "contracting" else "0.001"
        assert sorted(found) == [("fixed_inverse_lam", used), *([("inverse_lam", used)] if task == "contracting" else [])]


def test_a_backend_is_said_to_what_is_fitted_where_it_is_not_the_default(tmp_path: Path) -> None:
    folder = copy_workflow(tmp_path / "clone")
    runs = "results/smoke/runs"
    files = (
        f"{runs}/linear-long/hybrid/seed-1/prompt_tokens.parquet",
        f"{runs}/unclipped-n4-noise0p01/softmax-d7/seed-1/linear_layers.safetensors",
    )
    for said, expected in (("auto", []), ("torch", ["torch"])):
        printed = snakemake(folder, "-np", *files, *SMOKE, f"backend={said}")
        for command in ("tune-prompts", "distil"):
            (line,) = re.findall(rf"python -P -m mesaopt {command} .*", printed)
            assert re.findall(r"--backend (\w+)", line) == expected


SWEEP = "sweep={run: linear/lsa-d1, over: {lr: [1e-3, 2e-3], state_noise: [0.01, 0.1]}, panel: %s}"


def test_a_sweep_of_the_users_own_is_trained_and_drawn(built: Path, tmp_path: Path) -> None:
    """One run over a grid of settings of training and task, with its table; what is trained already is not trained again."""
    assert "needs a sweep: say one under `sweep`" in snakemake(built, "-n", "figures/sweep.pdf", *SMOKE, succeed=False)
    folder = copy_workflow(tmp_path / "clone")
    snakemake(folder, "figures/sweep.png", *SMOKE, "seeds=[1]", SWEEP % "test_loss")
    table = read_table(folder / "results/smoke/tables/sweep.parquet", "figure")
    assert sorted(zip(table["series"], table["x"], strict=True)) == [
        (f"state_noise {noise}", lr) for noise in ("0.01", "0.1") for lr in (1e-3, 2e-3)
    ]
    assert (folder / "figures/sweep.png").stat().st_size > 5000
    facts = json.loads((folder / "results/smoke/records/sweep.json").read_text())
    assert facts["runs"]["linear-state-noise-0p1/lsa-d1-lr-0p002-sweep"]["task"]["state_noise"] == 0.1
    more = planned(folder, "figures/sweep.png", *SMOKE, "seeds=[1]", (SWEEP % "mse").replace("2e-3", "2e-3, 3e-3"))
    assert more["train"] == 2 and more["evaluate"] == 6 and more["sweep_table"] == 1
    probes = planned(folder, "figures/sweep.png", *SMOKE, "seeds=[1]", SWEEP % "target_probe")
    assert probes["learn"] == 2 and "train" not in probes


def test_a_sweep_goes_on_without_a_point_that_diverged(tmp_path: Path) -> None:
    folder, asked = (
        copy_workflow(tmp_path / "clone"),
        [*SMOKE, "seeds=[1]", "sweep={run: linear/lsa-d2, over: {lr: [1e-3, 1e6]}}"],
    )
    assert "-sweep seed 1 diverged at step" in snakemake(folder, "figures/sweep.png", *asked, succeed=False)
    snakemake(folder, "figures/sweep.png", *asked)
    assert read_table(folder / "results/smoke/tables/sweep.parquet", "figure")["x"].tolist() == [1e-3]
    facts = json.loads((folder / "results/smoke/records/sweep.json").read_text())
    assert facts["sweep"]["diverged"] == ["lr 1e+06"] and len(facts["runs"]) == 1
    assert "train" not in planned(folder, "figures/sweep.png", *asked)
    # what is asked for by its name is trained, and another training is another point
    other = planned(folder, "figures/sweep.png", *asked, "runs={linear/lsa-d2: {training: {weight_decay: 0.2}}}")
    assert other["train"] == 2
