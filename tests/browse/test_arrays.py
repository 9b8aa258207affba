"""Numbers of the page: what plotly's own package would write, and back to the same numbers."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest
from typed_arrays import read

from mesaopt.browse.arrays import Positions, typed


@pytest.mark.parametrize("values", [np.arange(5) / 7, np.arange(6.0).reshape(2, 3), np.array([])])
def test_numbers_are_written_as_plotly_writes_them(values: np.ndarray) -> None:
    single = values.astype(np.float32)
    name, trace = ("z", go.Heatmap(z=single)) if values.ndim > 1 else ("y", go.Scatter(y=single))
    assert typed(values) == json.loads(go.Figure(trace).to_json())["data"][0][name]
    np.testing.assert_array_equal(read(typed(values)), single)


def test_equal_positions_are_kept_once() -> None:
    positions = Positions()
    assert [positions.place(np.arange(n)) for n in (3, 4, 3)] == [0, 1, 0]
    assert [read(kept).tolist() for kept in positions.kept] == [[0, 1, 2], [0, 1, 2, 3]]
