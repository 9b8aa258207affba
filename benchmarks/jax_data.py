"""The tasks' sequences in plain JAX, as PAPER section 2 has them; the same laws as the project's, other draws."""


def generate(task, batch, key):
    """Observations (batch, time + 1, n_obs) of freshly drawn systems."""
    import jax

    kinds = {"linear": linear, "partial": partial, "nonlinear": nonlinear}
    systems, first, noise, more = jax.random.split(key, 4)
    W = orthogonal(systems, batch, task.n_state)
    noise = 0.01 * jax.random.normal(noise, (task.context_length, batch, task.n_state))
    return kinds[task.kind](task, W, first, noise, more)


def orthogonal(key, batch, size):
    import jax
    import jax.numpy as jnp

    q, r = jnp.linalg.qr(jax.random.normal(key, (batch, size, size)))
    return q * jnp.sign(jnp.diagonal(r, axis1=1, axis2=2))[:, None]


def linear(task, W, first, noise, more):
    return states(W, first, noise, 1.0, 10.0, lambda state: state)


def partial(task, W, first, noise, more):
    import jax
    import jax.numpy as jnp

    hidden = states(W, first, noise, 1.0, 10.0, lambda state: state)
    channels, observed = jax.random.split(more)
    C = 0.5 * jax.random.normal(channels, (len(W), task.n_obs, task.n_state))
    return jnp.einsum("bij,btj->bti", C, hidden) + 0.01 * jax.random.normal(observed, (*hidden.shape[:2], task.n_obs))


def nonlinear(task, W, first, noise, more):
    """One MLP for the whole task, whatever the batch."""
    import jax
    import jax.numpy as jnp

    A, B = (1.1 * jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(task.n_state, 40), (40, task.n_state)]))

    def features(state):
        out = jax.nn.gelu(state @ A, approximate=True) @ B
        return out / jnp.linalg.norm(out, axis=-1, keepdims=True)

    return states(W, first, noise, 0.25, jnp.inf, features)


def states(W, first, noise, start, bound, features):
    """s_{t+1} = W features(s_t) + noise_t within the bound, s_1 uniform in (-start, start): (batch, time + 1, n)."""
    import jax
    import jax.numpy as jnp

    state = jax.random.uniform(first, (W.shape[0], W.shape[1]), minval=-start, maxval=start)

    def move(state, e):
        state = jnp.clip(jnp.einsum("bij,bj->bi", W, features(state)) + e, -bound, bound)
        return state, state

    later = jax.lax.scan(move, state, noise)[1]
    return jnp.moveaxis(jnp.concatenate([state[None], later]), 0, 1)
