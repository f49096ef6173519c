"""Words of the replica protocol that both ends (gateway and engine) must spell alike."""

DIALECT_HEADER = "x-loradock-dialect"
"""`openai` or `together` (types.enums.Dialect): which client family shapes the response. vLLM ignores it."""

ACCOUNT_HEADER = "x-loradock-account"
"""Whose key a request came with: accounts that share an adapter or the base model get equal parts of the engine.
vLLM ignores it."""

ENGINE_SECRET_ENV = "LORADOCK_ENGINE_SECRET"  # noqa: S105 - the name of a variable, not a secret
"""The replica's bearer secret travels in the environment, never on the command line (which `ps` shows)."""
