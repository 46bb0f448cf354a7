"""How the models stand: which of their versions serve.

Knows: where the runtime records what it serves. Rules: the audit log is only read, beside a runtime or
without one. Leaves to others: what follows from it (`build`, `refresh`).
"""

from appliance.audit.reader import AuditReader
from appliance.config import Config
from appliance.deployment import Deployment
from appliance.errors import StateError


def deployments(config: Config) -> dict[str, Deployment]:
    """Every model's deployment after its last completed decision; none when nothing was ever served.

    Raises StateError or AuditError when there is a log that cannot be read.
    """
    path = config.state.audit_log
    try:
        if not path.exists():
            return {}
    except OSError as error:
        raise StateError(
            f"cannot look at {path}: {error.strerror}",
            remedy="run this as a user who may read the audit log",
        ) from error
    with AuditReader(path) as reader:
        return reader.last_outcomes()
