"""The server: answers requests, carries out decisions, writes the audit log."""
