"""What the commands do, as resumable functions that Python users call too."""
