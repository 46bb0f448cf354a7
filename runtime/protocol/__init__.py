"""The control protocol's generated messages and stubs, and how errors travel (a door)."""

# Trailing metadata of a refused call: the error's stable code, and its remedy as UTF-8 bytes.
CODE_KEY = "holdfast-code"
REMEDY_KEY = "holdfast-remedy-bin"
# Trailing metadata of an inference: the id it was recorded under, when the client sent none.
REQUEST_ID_KEY = "holdfast-request-id"
# Metadata of a call that asks where its record stands, and the trailing metadata that tells it.
RECEIPT_KEY, RECEIPT_WANTED = "holdfast-receipt", "1"
RECORD_KEY = "holdfast-record"
