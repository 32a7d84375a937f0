"""What all data that travels is: frozen, and of known fields alone."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Validated once, where it is built."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
