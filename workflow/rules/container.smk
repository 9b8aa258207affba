# The image that jobs run in, where the configuration names one and Snakemake is asked for containers (`--sdm apptainer`). It holds
# the environment of a lock (Containerfile); sources and settings stay those of the clone. Before the rules: it is that of every job.

from snakemake.settings.types import DeploymentMethod

IMAGE = config["container"]

if IMAGE and DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method:
    if "://" not in IMAGE and not Path(IMAGE).expanduser().exists():
        stop(f"config: container: there is no image {IMAGE}")

if IMAGE:

    containerized: IMAGE
