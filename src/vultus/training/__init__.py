"""The training loop all avatars share. It knows tensors and a `Task`, never an avatar."""

from vultus.training.checkpoints import Checkpoint, latest_checkpoint, read_checkpoint, write_checkpoint
from vultus.training.loop import Control, LoopSettings, train
from vultus.training.parallel import average_gradients, process_group, rank, world_size
from vultus.training.randomness import shuffled_index, step_generator
from vultus.training.task import Task

__all__ = [
    "Checkpoint",
    "Control",
    "LoopSettings",
    "Task",
    "average_gradients",
    "latest_checkpoint",
    "process_group",
    "rank",
    "read_checkpoint",
    "shuffled_index",
    "step_generator",
    "train",
    "world_size",
    "write_checkpoint",
]
