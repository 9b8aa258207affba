"""The same training in plain JAX and optax: data, forward, backward, clipping and AdamW in one compiled step.

Runs in an environment of its own (requirements-jax.txt), as a worker like worker.py, and compares itself with given numbers:
`python jax_training.py --check FILE.npz`.
"""

import argparse
import functools
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from jax_data import generate
from rounds import serve

from mesaopt.spec.run import Run


def positions(time, d_pe):
    import jax.numpy as jnp

    angles = jnp.arange(time)[:, None] * 10000.0 ** (-jnp.arange(0, d_pe, 2) / d_pe)
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1).reshape(time, -1)[:, :d_pe]


def keep_compiled() -> None:
    """Compiled steps are kept for the next process: rounds measure training, not compiling."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(Path(__file__).resolve().parents[1] / "build/jax-cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def initial(run: Run):
    """Parameters by the names and with the shapes of the project's model, without its pack dimension."""
    import jax
    import jax.numpy as jnp

    model, n_obs, shapes = run.model, run.task.n_obs, {}
    for layer, kind in enumerate(model.layers):
        wide = model.d_model + (model.d_pe if layer == 0 else 0)
        heads, key = model.n_heads, f"layers.{layer}."
        shapes |= {key + "W_Q": (heads, model.d_head, wide), key + "W_K": (heads, model.d_head, wide)}
        shapes |= {key + "W_V": (heads, model.d_head, model.d_model), key + "W_O": (heads, model.d_model, model.d_head)}
        shapes |= {key + "W_1": (model.d_mlp, model.d_model), key + "W_2": (model.d_model, model.d_mlp)} if model.d_mlp else {}
        shapes |= {key + "lam": (heads,)} if kind == "mesa" else {}
    if model.tokens == "raw":
        shapes |= {"embedding": (model.d_model, n_obs), "unembedding": (n_obs, model.d_model)}
    keys = jax.random.split(jax.random.key(1), len(shapes))
    draw = lambda key, shape: model.init_std * jax.random.normal(key, shape)  # noqa: E731
    return {n: jnp.ones(s) if n.endswith("lam") else draw(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}


def sherman_morrison(q, k, lam):
    """R_t q_t at every position; q, k (batch, heads, time, d), lam (heads,)."""
    import jax
    import jax.numpy as jnp

    def update(R, kq):
        key, query = kq
        u = jnp.einsum("bhij,bhj->bhi", R, key)
        R = R - jnp.einsum("bhi,bhj->bhij", u, u) / (1 + (key * u).sum(-1))[..., None, None]
        return R, jnp.einsum("bhij,bhj->bhi", R, query)

    R = jnp.broadcast_to(jnp.eye(q.shape[-1]) * lam[:, None, None], (*q.shape[:2], q.shape[-1], q.shape[-1]))
    return jnp.moveaxis(jax.lax.scan(update, R, (jnp.moveaxis(k, 2, 0), jnp.moveaxis(q, 2, 0)))[1], 0, 2)


def unit_norm(x):
    import jax.numpy as jnp

    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-16)


def predict(model, p, tokens):
    """Predictions (batch, time, n_obs)."""
    import jax
    import jax.numpy as jnp

    e = tokens @ p["embedding"].T if model.tokens == "raw" else tokens
    time = e.shape[1]
    mask = jnp.tril(jnp.ones((time, time), bool))
    for layer, kind in enumerate(model.layers):
        key, seen = f"layers.{layer}.", e
        if layer == 0 and model.d_pe:
            seen = jnp.concatenate([e, jnp.broadcast_to(positions(time, model.d_pe), (len(e), time, model.d_pe))], -1)
        q, k = (jnp.einsum("bte,hde->bhtd", seen, p[key + name]) for name in ("W_Q", "W_K"))
        v = jnp.einsum("bte,hde->bhtd", e, p[key + "W_V"])
        if layer > 0:
            q, k, v = (unit_norm(x) if x_name in model.normalise else x for x_name, x in zip("qkv", (q, k, v), strict=True))
        if kind == "mesa":
            q = sherman_morrison(q, k, p[key + "lam"])
        scores = jnp.einsum("bhtd,bhsd->bhts", q, k)
        if kind == "softmax":
            weights = jax.nn.softmax(jnp.where(mask, scores / model.d_head**0.5, -jnp.inf), -1)
        else:
            weights = jnp.where(mask, scores, 0.0)
        e = e + jnp.einsum("bhts,bhsd,hed->bte", weights, v, p[key + "W_O"])
        if model.d_mlp:
            e = e + jax.nn.gelu(e @ p[key + "W_1"].T, approximate=True) @ p[key + "W_2"].T
        e = e if model.clip is None else jnp.clip(e, -model.clip, model.clip)
    return e @ p["unembedding"].T if model.tokens == "raw" else e[..., : tokens_width(model)]


def tokens_width(model):
    """Channels that are the prediction where tokens are the residual stream: (0, ., s_t, s_{t-1})."""
    return model.d_model // 4


def make_tokens(s, kind):
    import jax.numpy as jnp

    if kind == "raw":
        return s
    previous = jnp.pad(s, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    zero = jnp.zeros_like(s)
    return jnp.concatenate([zero, zero if kind == "constructed_bare" else s, s, previous], -1)


def loss_of(model, p, observations):
    """Half the squared error summed over channels, mean over sequences and positions."""
    s = observations[:, :-1]
    error = predict(model, p, make_tokens(s, model.tokens)) - observations[:, 1:]
    return (error**2).sum() / (2 * s.shape[0] * s.shape[1])


def make_step(run: Run):
    """A function that makes training step `index` and waits for it."""
    import jax
    import optax

    training = run.training
    optimizer = optax.chain(optax.clip(1.0), optax.adamw(training.lr, weight_decay=training.weight_decay))
    parameters = initial(run)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def advance(parameters, state, index):
        observations = generate(run.task, training.batch, jax.random.fold_in(jax.random.key(1), index))
        loss, grads = jax.value_and_grad(functools.partial(loss_of, run.model))(parameters, observations)
        updates, state = optimizer.update(grads, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    carried = [parameters, optimizer.init(parameters)]

    def step(index):
        carried[0], carried[1], loss = advance(*carried, index)
        loss.block_until_ready()

    return step


def check(path: str) -> None:
    """Print the largest norm-relative error of loss and gradients against those in `path`, as JSON."""
    import jax
    import numpy as np

    with np.load(path) as file:
        content = {name: file[name] for name in file.files}
    model = Run.from_json(str(content["spec"])).model
    assert set(model.layers) <= {"linear", "softmax", "mesa"}
    parameters = {name.removeprefix("value/"): value for name, value in content.items() if name.startswith("value/")}
    loss, grads = jax.jit(jax.value_and_grad(functools.partial(loss_of, model)))(parameters, content["observations"])
    pairs = [(loss, content["loss"]), *((grads[name], content[f"grad/{name}"]) for name in parameters)]
    errors = [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs]
    print(json.dumps({"error": max(errors)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", metavar="FILE")
    parser.add_argument("--job", metavar="JSON")
    args = parser.parse_args()
    if args.check:
        check(args.check)
        return
    job = json.loads(args.job)
    if job["core"] is not None:
        os.sched_setaffinity(0, {job["core"]})  # before JAX starts its threads: as many as there are cores
    keep_compiled()
    serve(make_step(Run.from_json(job["spec"])), job["seconds"])


if __name__ == "__main__":
    main()
