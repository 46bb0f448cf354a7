"""The server: answers requests, carries out decisions, writes the audit log."""

import os

# gRPC's core reads this when it is imported. Its own lines on standard error would break the journal's
# JSON and the console's screen, and every failure is told as one of ours.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# One thread of ours polls all calls; the core's event engine would read for it on threads of its own and wake
# it for each (docs/decisions/0045-one-processor.md).
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
