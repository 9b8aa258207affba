"""Hand-written algorithms that take what others have learned."""

from pathlib import Path

from workflow_folder import copy_workflow, planned, snakemake

TAKES, LEARNS = (f"partial/proposition2-{name}-published" for name in ("linear", "nonlinear"))


def test_scalars_are_learned_once_and_taken(tmp_path: Path) -> None:
    folder = copy_workflow(tmp_path / "clone")
    parameters = {name: f"results/smoke/theory/{name}/parameters.parquet" for name in (TAKES, LEARNS)}
    config = ("--config", "scale=smoke")
    assert planned(folder, parameters[TAKES], *config) == {"learn": 2}
    assert planned(folder, parameters[LEARNS], *config) == {"learn": 1}
    commands = [line for line in snakemake(folder, "-np", parameters[TAKES], *config).splitlines() if "mesaopt learn" in line]
    taking = [line for line in commands if f"--scalars {parameters[LEARNS]}" in line]
    assert len(commands) == 2 and len(taking) == 1 and f"--out {parameters[TAKES]}" in taking[0]
