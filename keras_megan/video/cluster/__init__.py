"""One job on several processes or machines: `open_models` decides where it runs."""

from keras_megan.extras import require
from keras_megan.video.errors import VideoError
from keras_megan.video.models.engines import ModelChoice
from keras_megan.video.models.loaded import Models


def open_models(
    choice: ModelChoice, ray: str | bool = False, workers: int | None = None
):
    """Decides what loads a network: this process, or workers of Ray.

    Args:
        choice: Which network.
        ray: Address of a cluster; `True` to start Ray here; `False`: this process.
        workers: How many workers; as many as fit if not given.

    Returns:
        A `Models` or a `Crew`, to be used as a context manager.

    Raises:
        MissingExtra: If Ray is wanted and not installed.
        VideoError: If there is no such model, or Ray cannot be reached.
    """
    if ray is False:
        if workers is not None:
            raise VideoError("The number of workers goes with --ray: add it.")
        return Models(choice.find)
    from keras_megan.video.cluster.crew import Crew
    from keras_megan.video.cluster.ray_cluster import open_ray

    require("ray")
    choice.find()
    address = "" if ray is True else ray
    return Crew(lambda: open_ray(address, workers, choice.threads), choice)
