"""Every layer and whole models under the transforms of `torch.func`, against plain automatic differentiation of the naive form.

All in float64; errors are relative to the norm of what is expected. A layer is named by its file, so a new one is tested too.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from torch.autograd import gradgradcheck
from torch.autograd.functional import hessian as plain_hessian
from torch.autograd.functional import jacobian as plain_jacobian
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.attention import linear_attention, softmax_attention
from mesaopt.models.by_hand import naive_form
from mesaopt.models.kinds import kind_called
from mesaopt.models.layers.mesa import mesa_attention
from mesaopt.models.projections import linear_map, queries_keys_values
from mesaopt.models.transformer import initialise, kept_encoding
from mesaopt.spec.run import Model
from mesaopt.spec.words import words

#: PyTorch itself, where it looks for a forward-mode derivative for the first time
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

TOLERANCE = 1e-9
RAW = Model(("linear",), "raw", d_model=4, n_heads=2, d_head=2, init_std=0.4, d_pe=2, d_mlp=3, normalise="qk")
CONSTRUCTED = Model(("linear",), "constructed", d_model=4, n_heads=2, d_head=3, init_std=0.5, clip=2.0)


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer(kind):
    """A layer's heads as a function of q, k, v, e and the layer's own parameters; and such arguments."""
    found, (pack, batch, heads, time, d_head) = kind_called(kind), (2, 1, 2, 4, 2)
    own = found.own(replace(RAW, layers=(kind,)))
    arguments = [drawn(pack, batch, heads, time, d_head, seed=seed) for seed in (1, 2, 3)] + [drawn(pack, batch, time, 4, seed=4)]
    arguments += [0.5 + drawn(pack, *one.shape, seed=5).abs() for one in own.values()]
    return lambda q, k, v, e, *rest: found.heads(q, k, v, e, dict(zip(own, rest, strict=True))), arguments


def transformer(kind, model):
    """A model's predictions as a function of its tokens and of all its parameters; and such arguments."""
    model = initialise(replace(model, layers=(kind, kind)), 1, [1]).double()
    names = [name for name, _ in model.named_parameters()]
    tokens = tokenise(drawn(1, 2, 4, 1), model.model.tokens)
    return (
        lambda tokens, *weights: functional_call(model, dict(zip(names, weights, strict=True)), (tokens,)),
        [tokens, *(parameter.detach() for parameter in model.parameters())],
    )


@dataclass(frozen=True)
class Case:
    """A function of several arrays, the same as a function of one vector, and the derivatives that the naive form has there."""

    function: object
    arguments: list
    points: torch.Tensor

    def vector(self, z):
        pieces = z.split([x.numel() for x in self.arguments])
        return self.function(*[piece.reshape(x.shape) for piece, x in zip(pieces, self.arguments, strict=True)]).flatten()

    def scalar(self, z):
        return self.vector(z).sin().sum()

    def jacobians(self):
        with naive_form():
            return torch.stack([plain_jacobian(self.vector, z) for z in self.points])

    def hessians(self):
        with naive_form():
            return torch.stack([plain_hessian(self.scalar, z) for z in self.points])


CASES = {f"{kind} layer": lambda kind=kind: layer(kind) for kind in words("layer")}
CASES |= {f"{kind} raw": lambda kind=kind: transformer(kind, RAW) for kind in words("layer")}
CASES |= {f"{kind} constructed": lambda kind=kind: transformer(kind, CONSTRUCTED) for kind in words("layer")}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """With its Jacobians and Hessians at two points."""
    function, arguments = CASES[request.param]()
    point = torch.cat([x.flatten() for x in arguments])
    found = Case(function, arguments, torch.stack([point, point + 0.1 * drawn(*point.shape, seed=7)]))
    return found, found.jacobians(), found.hessians()


def close(found, expected):
    return found.shape == expected.shape and (found - expected).norm() <= TOLERANCE * expected.norm()


@pytest.mark.parametrize("kind", words("layer"))
def test_forward_mode_without_the_naive_form_says_what_it_needs(kind):
    function, (tokens, *weights) = transformer(kind, RAW)

    def predictions(tokens):
        return function(tokens, *weights)

    for derivative in (jacfwd(predictions), hessian(predictions), lambda x: jvp(predictions, (x,), (x,))):
        with pytest.raises(InputError, match=r"^jvp, jacfwd and hessian .* inside mesaopt\.models\.by_hand\.naive_form\(\)$"):
            derivative(tokens)


def test_first_derivatives(case):
    found, jacobians, _ = case
    z = found.points[0]
    value, pull = vjp(found.vector, z)
    towards = drawn(*value.shape)
    assert close(pull(towards)[0], towards @ jacobians[0])
    assert close(grad(found.scalar)(z), found.vector(z).cos() @ jacobians[0])
    assert close(jacrev(found.vector)(z), jacobians[0])


def test_mapped(case):
    found, jacobians, _ = case
    with naive_form():
        values = torch.stack([found.vector(z) for z in found.points])
    gradients = torch.einsum("pi,pij->pj", values.cos(), jacobians)
    assert close(vmap(found.vector)(found.points), values)
    assert close(vmap(found.vector, in_dims=1, out_dims=1)(found.points.mT), values.mT)
    assert close(vmap(grad(found.scalar))(found.points), gradients)
    assert close(vmap(jacrev(found.vector))(found.points), jacobians)
    assert close(vmap(vmap(grad(found.scalar)))(found.points[None].expand(2, -1, -1)), gradients.expand(2, -1, -1))
    assert close(jacrev(vmap(found.vector))(found.points), torch.einsum("pij,pq->piqj", jacobians, torch.eye(2).double()))


def test_second_derivatives(case):
    found, _, hessians = case
    z, towards = found.points[0], drawn(*found.points[0].shape)
    assert close(grad(lambda z: grad(found.scalar)(z) @ towards)(z), hessians[0] @ towards)
    assert close(jacrev(grad(found.scalar))(z), hessians[0])
    assert close(vmap(jacrev(grad(found.scalar)))(found.points), hessians)
    pull = vjp(grad(found.scalar), z)[1]
    assert close(vmap(pull)(torch.eye(len(z)).double())[0], hessians[0])


def test_forward_mode_in_the_naive_form(case):
    found, jacobians, hessians = case
    z, towards = found.points[0], drawn(*found.points[0].shape)
    with naive_form():
        assert close(jvp(found.vector, (z,), (towards,))[1], jacobians[0] @ towards)
        assert close(jacfwd(found.vector)(z), jacobians[0])
        assert close(hessian(found.scalar)(z), hessians[0])
        assert close(vmap(hessian(found.scalar))(found.points), hessians)


def test_plain_automatic_differentiation_twice_and_thrice(case):
    """`create_graph` without any transform."""
    found, _, hessians = case
    z, towards = found.points[0].clone().requires_grad_(), drawn(*found.points[0].shape)

    def third():
        (first,) = torch.autograd.grad(found.scalar(z), z, create_graph=True)
        (second,) = torch.autograd.grad(first @ towards, z, create_graph=True)
        return second.detach(), torch.autograd.grad(second @ towards, z)[0]

    second, most = third()
    assert close(second, hessians[0] @ towards)
    assert close(grad(lambda z: grad(lambda z: grad(found.scalar)(z) @ towards)(z) @ towards)(z.detach()), most)
    with naive_form():
        assert close(most, third()[1])


def test_gradients_taken_later_and_without_graphs(case):
    """The backward pass outside its transform and without `create_graph`, alone or in `vmap`."""
    found, jacobians, _ = case
    z = found.points[0]
    value, pull = vjp(found.vector, z)
    towards = drawn(3, *value.shape)
    with torch.no_grad():
        assert close(pull(towards[0])[0], towards[0] @ jacobians[0])
        assert close(vmap(pull)(towards)[0], towards @ jacobians[0])
    _, pull = vjp(lambda z: vjp(found.vector, z)[1](towards[0])[0], z)
    expected = jacrev(lambda z: towards[0] @ jacrev(found.vector)(z))(z).mT @ drawn(len(z))
    with torch.no_grad():
        assert close(pull(drawn(len(z)))[0], expected)


def test_arguments_mapped_one_at_a_time(case):
    """The others are the same for all: weights of an ensemble, sequences of a model."""
    found, arguments = case[0].function, case[0].arguments
    for place, x in enumerate(arguments):
        several = torch.stack([x, 1.1 * x], dim=-1)
        dims = [None] * len(arguments)
        dims[place] = -1
        given = [several if index == place else y for index, y in enumerate(arguments)]
        jacobians = vmap(jacrev(found, argnums=place), in_dims=tuple(dims))(*given)
        with naive_form():
            for one, jacobian in zip(several.unbind(-1), jacobians, strict=True):
                here = [*arguments[:place], one, *arguments[place + 1 :]]
                expected = plain_jacobian(lambda x, here=here: found(*here[:place], x, *here[place + 1 :]), one)  # noqa: B023
                assert (jacobian - expected).norm() <= TOLERANCE * (expected.norm() + 1e-3), place


def test_the_naive_form_ends_with_its_block():
    q, k, v = (drawn(1, 3, 2, seed=seed) for seed in range(3))
    with pytest.raises(ZeroDivisionError), naive_form():
        assert jacfwd(linear_attention)(q, k, v).shape == (1, 3, 2, 1, 3, 2)
        raise ZeroDivisionError
    with pytest.raises(InputError, match="naive form"):
        jacfwd(linear_attention)(q, k, v)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (linear_attention, [(4, 3), (4, 3), (4, 2)]),
        (softmax_attention, [(2, 1, 4, 3), (2, 1, 4, 3), (2, 1, 4, 2)]),
        (mesa_attention, [(2, 1, 3, 2), (2, 1, 3, 2), (2, 1, 3, 2), (1,)]),
        (mesa_attention, [(2, 1, 3, 2), (2, 1, 3, 2), (2, 1, 3, 2), (1,), (2, 1, 3)]),
        (queries_keys_values, [(2, 2, 3, 4), *[(2, 1, 2, 4)] * 3]),
        (linear_map, [(2, 2, 3, 4), (2, 5, 4)]),
    ],
)
def test_gradients_of_gradients_by_differences(function, shapes):
    """Also where some arguments need none, and of one output alone."""
    arguments = [0.2 + 0.7 * drawn(*shape, seed=seed).sigmoid() for seed, shape in enumerate(shapes)]
    for needed in range(len(arguments) + 1):
        leaves = [x.clone().requires_grad_(needed in (index, len(arguments))) for index, x in enumerate(arguments)]
        assert gradgradcheck(function, leaves)
    if function is queries_keys_values:
        assert gradgradcheck(lambda *given: queries_keys_values(*given)[1], [x.requires_grad_() for x in arguments])


@pytest.mark.parametrize("time", [1, 150])
def test_long_and_shortest_contexts(time):
    """Through several parts of the mesa-layer's recursion."""
    q, k, v = (0.5 * drawn(2, 2, time, 3, seed=seed) for seed in (1, 2, 3))
    lam = torch.tensor([0.7, 1.3], dtype=torch.float64)
    keep = 0.8 + 0.2 * torch.rand(2, 2, time, dtype=torch.float64, generator=torch.Generator().manual_seed(4))

    def last(q, keep):
        return mesa_attention(q, k, v, lam, keep)[..., -1, :].sum((0, 1))

    for place in (0, 1):
        found = jacrev(last, argnums=place)(q, keep)
        with naive_form():
            assert close(found, jacrev(last, argnums=place)(q, keep))


def test_positions_made_inside_a_transform_are_right_afterwards():
    """They are kept for the next call, which may be an ordinary one or in another transform."""
    function, (tokens, *weights) = transformer("linear", RAW)

    def loss(tokens):
        return function(tokens, *weights).square().sum()

    def twice(tokens):
        return grad(lambda x: grad(loss)(x).sum())(tokens)

    kept_encoding.cache_clear()
    expected, gradient = function(tokens, *weights), grad(loss)(tokens)
    for transformed in (twice, lambda x: vmap(twice)(x[None]), lambda x: vmap(grad(loss))(x[None])):
        kept_encoding.cache_clear()
        transformed(tokens)
        assert close(function(tokens, *weights), expected) and close(grad(loss)(tokens), gradient)
        assert twice(tokens).isfinite().all()
