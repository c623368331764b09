"""Data sets, images, augmentation and batches."""
