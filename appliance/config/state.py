"""Settings of the state directory: what is kept where.

Knows: the layout of everything that must survive a restart. Leaves to others: reading and writing it.
"""

from pathlib import Path

from appliance.config.section import Section


class StateConfig(Section, frozen=True, kw_only=True):
    """Where everything that must survive a restart is kept."""

    directory: str = "./holdfast-data"

    @property
    def root(self) -> Path:
        """The state directory, absolute."""
        return Path(self.directory).absolute()

    @property
    def store(self) -> Path:
        """Where versions are at rest."""
        return self.root / "store"

    @property
    def audit_log(self) -> Path:
        """The audit log's database file."""
        return self.root / "audit" / "log.db"

    @property
    def payloads(self) -> Path:
        """The database file of kept payloads; its large ones lie beside it."""
        return self.root / "payloads" / "payloads.db"

    @property
    def box_key(self) -> Path:
        """The box's own private key; it signs checkpoints and nothing else."""
        return self.root / "keys" / "box.pem"

    @property
    def tokens(self) -> Path:
        """The bearer tokens that were issued, as digests."""
        return self.root / "access" / "tokens.json"

    @property
    def witness_key(self) -> Path:
        """The private key that this box cosigns others' checkpoints with, if it is a witness."""
        return self.root / "keys" / "witness.pem"

    @property
    def witnessed(self) -> Path:
        """The checkpoint of each other box that was cosigned last."""
        return self.root / "witness"

    @property
    def cosigned(self) -> Path:
        """This box's own newest checkpoint that a witness has cosigned."""
        return self.root / "checkpoints" / "cosigned.note"

    @property
    def trust(self) -> Path:
        """Public keys of those whose bundles this box builds."""
        return self.root / "trust"

    @property
    def control_socket(self) -> Path:
        """The Unix socket of the control service."""
        return self.root / "control.sock"

    @property
    def drift(self) -> Path:
        """Where drift reports are written."""
        return self.root / "drift"

    @property
    def work(self) -> Path:
        """Where bundles are prepared before they are written."""
        return self.root / "work"

    @property
    def build_cache(self) -> Path:
        """Where Numba keeps what builds compiled: a model was at work there, so nothing serves from it."""
        return self.root / "cache" / "numba-build"

    @property
    def kernel_cache(self) -> Path:
        """Where Numba keeps what it compiled on this box."""
        return self.root / "cache" / "numba"
