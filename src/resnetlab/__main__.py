"""``python -m resnetlab``, and ``torchrun --nproc-per-node 2 -m resnetlab``."""

from resnetlab.cli import main

if __name__ == "__main__":
    main()
