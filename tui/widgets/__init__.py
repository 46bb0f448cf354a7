"""The parts of the console's screens; each shows one part of a snapshot."""
