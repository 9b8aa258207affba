# Which figures there are, what each is made of, and what is said of one that there is not.

from mesaopt.figures.looks import to_json as looks_to_json


def recorded_figures():
    return [name for name in FIGURES if Path(f"{tables_of('recorded')}/{name}.parquet").exists()]


def drawable_figures():
    """What `all` asks for: every figure; at the `recorded` scale those whose tables ship with the project."""
    return recorded_figures() if SCALE == "recorded" else figures_with_text()


@cache
def figures_with_text():
    """All figures but those of language models where the scale's text is one that nobody gave; a line says which and why."""
    language, looks = plan(SCALE).language, plan(SCALE).looks
    missing = {run: reason for run in language.runs if (reason := language.missing_text(run))}
    without = {name: [run for run in registry.runs(name, looks) if run in missing] for name in FIGURES if missing}
    if left_out := [name for name, runs in without.items() if runs]:
        reason = missing[without[left_out[0]][0]]
        print(f"mesaopt: {', '.join(left_out)} left out: {reason} (config/README.md)", file=sys.stderr)
    return [name for name in FIGURES if not without.get(name)]


def figure_seeds(wildcards):
    return plan(wildcards.scale).seeds


def figure_looks(wildcards):
    """Labels and colours of the runs and algorithms behind a figure."""
    looks = plan(wildcards.scale).looks
    return looks_to_json(looks, [*registry.runs(wildcards.figure, looks), *registry.algorithms(wildcards.figure, looks)])


def figure_file(figure, file):
    """The table of a figure, or its record."""

    def path(wildcards):
        found = f"{results_of(wildcards.any_scale)}/{file.place.format(figure=figure)}"
        if wildcards.any_scale == "recorded" and not Path(found).exists():
            stop(f"{figure} is not recorded yet: no {found}; recorded are: {', '.join(recorded_figures()) or 'none'}")
        return found

    return path


def measured_speed(suffix):
    """The table of this machine, to be measured if need be; at the `recorded` scale the one that ships with the project."""

    def path(wildcards):
        if SCALE != "recorded":
            return f"results/benchmarks/speed.{suffix}"
        if not Path(f"{RECORDED}/speed.{suffix}").exists():
            stop(f"the speed is not recorded yet: there is no {ROOT / f'results/recorded/speed.{suffix}'}")
        return f"{RECORDED}/speed.{suffix}"

    return path


_CLOSED = rf"(results/({'|'.join([*COMPUTED_SCALES, 'recorded'])})/)?figures/({'|'.join(DRAWINGS)})\.({'|'.join(FORMATS)})$"
_SPEED = rf"figures/speed\.({'|'.join(FORMATS)})$"
UNKNOWN_FIGURE = rf"(?!{_CLOSED}|{_SPEED})(results/[^/]+/)?figures/.+"


def no_such_figure(wildcards):
    if _KNOWN.sweep is None and Path(wildcards.path).stem == "sweep":
        stop(f"{wildcards.path} needs a sweep: say one under `sweep` in the configuration (config/README.md)")
    if PUBLISHED is None and "figures/agreement/" in wildcards.path:
        stop(f"{wildcards.path} needs published curves: set published_tables to a folder of them (config/README.md)")
    known = f"figures are {', '.join(DRAWINGS)}, formats {', '.join(FORMATS)}, scales {', '.join([*COMPUTED_SCALES, 'recorded'])}"
    stop(f"no figure {wildcards.path!r}: {known}")
