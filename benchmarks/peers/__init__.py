"""Against those who train on folders of images, too: `python -m benchmarks.peers FOLDER`."""
