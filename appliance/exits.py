"""The one table from errors to process exit codes, shared by every command.

Knows: what a script may branch on. Rules: a code never changes its meaning; the nearest class in the
error's ancestry wins. Leaves to others: printing.
"""

from appliance import errors

OK = 0
UNEXPECTED = 1
USAGE = 2
DRIFT_FOUND = 3
GOAL_MISSED = 4
TROUBLE_FOUND = 5
INTERRUPTED = 130
BROKEN_PIPE = 141

EXIT_CODES: dict[type[errors.ApplianceError], int] = {
    errors.ConfigError: 10,
    errors.StateError: 11,
    errors.KeyFileError: 12,
    errors.CertificateError: 12,
    errors.BundleError: 13,
    errors.SpecError: 14,
    errors.RecipeError: 14,
    errors.SourceError: 15,
    errors.EngineError: 16,
    errors.ProofError: 17,
    errors.StoreError: 18,
    errors.LoadFailed: 18,
    errors.DecisionError: 19,
    errors.RequestError: 20,
    errors.NotGranted: 20,
    errors.RegionUnusable: 20,
    errors.SequenceBroken: 20,
    errors.Overloaded: 21,
    errors.DeadlinePassed: 21,
    errors.Draining: 21,
    errors.ListenError: 22,
    errors.Unreachable: 23,
    errors.AuditError: 24,
    errors.DriftError: 25,
    errors.BuildError: 26,
    errors.AccessError: 27,
}


def exit_code(error: BaseException) -> int:
    """Return the exit code for `error`: its nearest listed ancestor's, else UNEXPECTED."""
    for ancestor in type(error).__mro__:
        if ancestor in EXIT_CODES:
            return EXIT_CODES[ancestor]
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else UNEXPECTED
