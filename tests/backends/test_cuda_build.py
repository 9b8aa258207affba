"""NVRTC compiles the CUDA kernel, without a GPU, for every shape of the paper; what it compiled is kept and checked."""

from pathlib import Path

import pytest

from mesaopt.backends.cuda import build, nvrtc
from mesaopt.backends.cuda.build import binary
from mesaopt.backends.cuda.shape import Shape, shape_of, unsupported
from mesaopt.backends.native.build import BuildError
from mesaopt.backends.native.kept import digest_path
from mesaopt.spec.plan import resolve
from mesaopt.spec.yaml_files import read_yaml

CONFIG = Path(__file__).parents[2] / "config"
KERNELS = ("step", "pack", "reduce", "optimise", "draw", "sizes")
CAPABILITIES = ((8, 0), (9, 0))
QUICKLY = "--Ofast-compile=max"
SMALL = Shape(6, 4, 8, 2, 0, 0, 0, False, 0b001)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of its own for what is compiled; without NVRTC these tests are skipped."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        try:
            nvrtc.version()
        except BuildError as error:
            pytest.skip(f"THE CUDA KERNEL IS NOT COMPILED: {error}")
        yield folder


def shapes_of_the_paper() -> list[Shape]:
    """Of every run at the paper's settings that the kernel supports, with drawing on the device."""
    plan = resolve(*(read_yaml(CONFIG / f"{name}.yaml") for name in ("experiments", "scales", "config")), "paper")
    runs = [run for run in plan.runs.values() if unsupported(run.model) is None]
    shapes = {shape_of(run.model, run.task.n_obs, run.task.context_length, run.task.n_state) for run in runs}
    return sorted(shapes, key=str)


def test_the_paper_has_shapes_of_all_kinds():
    shapes = shapes_of_the_paper()
    assert len(shapes) > 20
    assert {(shape.raw, shape.d_mlp > 0) for shape in shapes} == {(False, False), (True, False), (True, True)}


def compiled(shapes: list[Shape], capability: tuple[int, int]) -> None:
    for shape in shapes:
        code = binary(shape, capability)
        missing = [name for name in KERNELS if f"mesaopt_{name}\0".encode() not in code]
        assert not missing, (shape, missing)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_shape_of_the_paper_compiles(capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """With few optimisations, which takes a fifth of the time; they are no part of the name of what is kept."""
    fully = nvrtc.compile_cuda
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(nvrtc, "compile_cuda", lambda source, headers, options: fully(source, headers, (*options, QUICKLY)))
    compiled(shapes_of_the_paper(), capability)


@pytest.mark.long
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_shape_of_the_paper_is_compiled_as_it_is_used(capability: tuple[int, int]):
    compiled(shapes_of_the_paper(), capability)


def test_what_was_compiled_is_kept_and_a_damaged_one_built_anew(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    first = binary(SMALL, (9, 0))
    with monkeypatch.context() as patch:
        patch.setattr(nvrtc, "compile_cuda", lambda *_: pytest.fail("compiled again"))
        assert binary(SMALL, (9, 0)) == first
    path = max(cache.rglob("cuda-*.cubin"), key=lambda path: path.stat().st_mtime)
    assert path.read_bytes() == first and digest_path(path).exists()
    path.write_bytes(first[:-1])
    assert binary(SMALL, (9, 0)) == first
    assert capsys.readouterr().err == f"mesaopt: {path} is damaged, not what was compiled: built anew\n"


def test_a_mistake_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in (build.SOURCE, *build.HEADERS):
        text = (build.FOLDER / name).read_text()
        (tmp_path / name).write_text(text.replace("struct Step {", "struct Step { nonsense;"))
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    with pytest.raises(BuildError, match=r"^NVRTC cannot compile the CUDA kernel: step.h\(\d+\): error: [^\n]*$"):
        binary(SMALL, (9, 0))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nvrtc, "_folders", lambda: iter(()))
    monkeypatch.setattr(nvrtc, "_library", nvrtc._library.__wrapped__)
    with pytest.raises(BuildError, match=r"^no NVRTC to compile the CUDA kernel with"):
        nvrtc.version()
