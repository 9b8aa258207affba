"""Training steps in JAX as fast as a plain form gets on a GPU: seeds by `vmap`, a hundred steps in one call by `lax.scan`, data
drawn on the device; or with `--steps 1` one call a step. Prints steps of one seed per second, in rounds, as JSON.

Runs where JAX is installed: `python jax_scan.py --model LSA-6 --seeds 5`. Products are in float32 (`--precision default`:
TF32).
"""

import argparse
import functools
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from jax_data import generate
from jax_training import initial, keep_compiled, loss_of
from models import NAMES, make_run


def make_steps(run, seeds, count):
    """A function that makes `count` steps of all seeds and waits for them."""
    import jax
    import jax.numpy as jnp
    import optax

    training = run.training
    optimizer = optax.chain(optax.clip(1.0), optax.adamw(training.lr, weight_decay=training.weight_decay))

    def one(parameters, state, key):
        loss, grads = jax.value_and_grad(functools.partial(loss_of, run.model))(
            parameters, generate(run.task, training.batch, key)
        )
        updates, state = optimizer.update(grads, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    def many(parameters, state, keys):
        def step(carried, keys):
            *carried, loss = jax.vmap(one)(*carried, keys)
            return carried, loss

        return jax.lax.scan(step, [parameters, state], keys)

    stacked = jax.tree.map(lambda x: jnp.stack([x] * seeds), initial(run))
    carried, advance = [stacked, jax.vmap(optimizer.init)(stacked)], jax.jit(many, donate_argnums=(0, 1))

    def steps(index):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), index), (count, seeds))
        carried[:], losses = advance(*carried, keys)
        losses.block_until_ready()

    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=NAMES, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="in one call")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    parser.add_argument("--precision", default="float32")
    args = parser.parse_args()
    import jax

    jax.config.update("jax_default_matmul_precision", args.precision)
    keep_compiled()
    steps, speeds, index = make_steps(make_run(args.model), args.seeds, args.steps), [], 0
    steps(0)
    for _ in range(args.rounds):
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < args.seconds:
            index += 1
            steps(index)
            count += args.steps
        speeds.append(count * args.seeds / (time.perf_counter() - start))
    print(json.dumps(speeds))


if __name__ == "__main__":
    main()
