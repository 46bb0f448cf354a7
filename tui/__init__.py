"""The operator's face: the console and the `holdfast` commands."""
