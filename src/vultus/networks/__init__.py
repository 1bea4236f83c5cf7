"""Networks that several avatars, losses or measures share. Their weights are the user's files, as tensors by name."""
