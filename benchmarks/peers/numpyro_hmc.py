"""NumPyro's HMC and NUTS, chains vectorised, with settings that are given and with its warm-up."""

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import HMC, MCMC, NUTS
from serving import Tasks, serve
from targets import funnel, gaussian


def make_tasks(settings: dict) -> Tasks:
    inverse = jnp.asarray(np.load(settings["inverse"]))
    start = jnp.asarray(np.load(settings["start"]))
    wide = jnp.asarray(np.load(settings["wide_start"]))
    n_leapfrog, warmup, chunk = (settings[k] for k in ("n_leapfrog", "warmup", "funnel_draws"))
    step_size = settings["step_size"]
    length = n_leapfrog * step_size
    keys = iter(jax.random.split(jax.random.key(0), 10_000))
    given = {"step_size": step_size, "adapt_step_size": False, "adapt_mass_matrix": False}

    def on_gaussian(x):
        return gaussian(x, inverse)

    def on_funnel(x):
        return funnel(x, jnp.exp)

    def runner(kernel, warmup, steps, x):
        return MCMC(
            kernel,
            num_warmup=warmup,
            num_samples=steps,
            num_chains=len(x),
            chain_method="vectorized",
            progress_bar=False,
        )

    def task(kernel, warmup, x):
        made: dict[int, MCMC] = {}

        def run(steps: int) -> dict:
            # One runner for each number of draws: it keeps what it has compiled.
            made.setdefault(steps, runner(kernel, warmup, steps, x))
            made[steps].run(next(keys), init_params=x)
            return {"x": jax.block_until_ready(made[steps].get_samples(group_by_chain=True))}

        return run

    on_the_funnel = runner(NUTS(potential_fn=on_funnel), warmup, chunk, wide)

    def run_funnel(chunks: int) -> dict:
        if on_the_funnel.last_state is None:
            on_the_funnel.run(next(keys), init_params=wide)
        seen = []
        for _ in range(chunks):
            on_the_funnel.post_warmup_state = on_the_funnel.last_state
            on_the_funnel.run(next(keys))
            seen.append(on_the_funnel.get_samples(group_by_chain=True)[..., 0])
        return {"v": jnp.concatenate(jax.block_until_ready(seen), 1)}

    return {
        "HMC": task(HMC(potential_fn=on_gaussian, trajectory_length=length, **given), 0, start),
        "NUTS": task(NUTS(potential_fn=on_gaussian, **given), 0, start),
        "tuned HMC": task(
            HMC(potential_fn=on_gaussian, trajectory_length=length), warmup, 2 * start
        ),
        "tuned NUTS": task(NUTS(potential_fn=on_gaussian), warmup, 2 * start),
        "funnel": run_funnel,
    }


if __name__ == "__main__":
    serve(make_tasks, "numpyro", "jax")
