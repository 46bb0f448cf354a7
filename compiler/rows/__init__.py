"""The engineer's rows: as given (`samples`), as sealed (`held_out`), what they should give (`truth`)."""
