"""Evidence: shortest ways beside scipy's, colours that are alike, and the share of object in each colour."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import lil_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from sw2.domains.vision.segmentation.evidence import MAPS, colours, geodesic, maps, palette

SIDE = 16
FAR = 1e4


def _shortest(colours_3HH: np.ndarray, start: int) -> np.ndarray:
    """Dijkstra's distances over the eight neighbours, with the lengths that the docstring says."""
    side = colours_3HH.shape[1]
    graph = lil_array((side * side, side * side))
    for y in range(side):
        for x in range(side):
            for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
                if y + dy < side and 0 <= x + dx < side:
                    apart = np.linalg.norm(colours_3HH[:, y, x] - colours_3HH[:, y + dy, x + dx])
                    graph[y * side + x, (y + dy) * side + x + dx] = apart + 0.02 * np.hypot(dy, dx)
    return dijkstra(graph.tocsr(), directed=False, indices=start).reshape(side, side)


def test_ways_are_the_shortest_ones_where_they_have_few_turns() -> None:
    draw = np.random.default_rng(0)
    smooth = torch.from_numpy(draw.normal(0, 0.3, (2, 3, 4, 4))).float()
    tints = torch.nn.functional.interpolate(smooth, size=(SIDE, SIDE), mode="bilinear")
    start = torch.full((2, 1, SIDE, SIDE), FAR)
    start[:, 0, 5, 9] = 0
    found = geodesic(start, tints)
    for number in range(2):
        true = _shortest(tints[number].double().numpy(), 5 * SIDE + 9)
        assert (found[number, 0].numpy() >= true - 1e-4).all()
        assert (found[number, 0].numpy() <= 1.02 * true + 1e-4).all()


def test_a_wall_is_gone_around_where_it_has_a_gap() -> None:
    tints = torch.zeros(1, 3, SIDE, SIDE)
    tints[:, :, :-1, 8] = 1.0
    start = torch.full((1, 1, SIDE, SIDE), FAR)
    start[0, 0, 0, 0] = 0
    found = geodesic(start, tints)[0, 0]
    assert found[0, 7] < 0.2
    assert 0.02 * 2 * SIDE * 0.7 < found[0, 12] < 0.02 * 3 * SIDE


def _two_colours() -> tuple[Tensor, Tensor]:
    """A red square on blue, normalised, and where it is at half the size."""
    image = torch.zeros(1, 3, 2 * SIDE, 2 * SIDE)
    image[:, 2] = 1.0
    image[:, 0, 8:24, 8:24], image[:, 2, 8:24, 8:24] = 1.0, 0.0
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[4:12, 4:12] = True
    return image, inside


def _maps(image: Tensor, clicks: list[tuple[int, int, int]], believed_HH: Tensor) -> Tensor:
    tints = colours(image)
    places = torch.tensor([[y * SIDE + x for x, y, _ in clicks]])
    given = torch.stack([torch.tensor([[label == wanted for *_, label in clicks]]) for wanted in (1, 0)])
    return maps(tints, palette(tints), places, given, believed_HH.flatten()[None])[0]


def test_of_two_colours_every_map_tells_the_clicked_one() -> None:
    image, inside = _two_colours()
    believed = torch.zeros(SIDE, SIDE)
    believed[7:9, 7:9] = 1
    found = _maps(image, [(8, 8, 1), (1, 1, 0)], believed)
    assert found.shape == (MAPS, SIDE, SIDE)
    assert found.min() >= 0
    assert found.max() <= 1
    positive, negative, model = found[:2], found[2:4], found[4]
    assert (positive[:, inside].amin(1) > positive[:, ~inside].amax(1)).all()
    assert (negative[:, inside].amax(1) < negative[:, ~inside].amin(1)).all()
    assert torch.allclose(model[inside], torch.tensor(4 / 64), atol=1e-3)
    assert torch.allclose(model[~inside], torch.tensor(0.0), atol=1e-3)
    well_inside, well_outside = inside[6, 6], found[5][1, 1]
    assert well_inside
    assert found[5][6, 6] > 0.5 > well_outside


def test_without_clicks_nothing_is_near_one() -> None:
    image, inside = _two_colours()
    found = _maps(image, [(8, 8, -1)], inside.float())
    assert found[:4].max() == 0
    assert found[5:].max() < 1e-6
    assert torch.allclose(found[4][inside], torch.tensor(1.0), atol=1e-3)


def test_rows_belong_to_their_pictures() -> None:
    """Two pictures with two prompts each, at once and one by one."""
    draw = torch.Generator().manual_seed(0)
    tints = colours(torch.randn(2, 3, 2 * SIDE, 2 * SIDE, generator=draw))
    places = torch.randint(SIDE * SIDE, (4, 3), generator=draw)
    given = torch.rand(2, 4, 3, generator=draw) < 0.5
    believed = torch.rand(4, SIDE * SIDE, generator=draw)
    whole = maps(tints, palette(tints), places, given, believed)
    for row in range(4):
        one = tints[row // 2 : row // 2 + 1]
        alone = maps(one, palette(one), places[row : row + 1], given[:, row : row + 1], believed[row : row + 1])
        torch.testing.assert_close(whole[row], alone[0], rtol=1e-4, atol=1e-5)
