"""Usage by key, within bounds."""

from collections.abc import Collection

from loradock.telemetry.usage import Key, Usage

OTHER = "other"
"""Stands for the keys and names that there is no room for."""
_MAX_ROWS = 2000
_MAX_NAMES = 256


class Bucket:
    """Usage per key over some time; beyond `limit` keys, what comes new is counted together per endpoint."""

    def __init__(self, limit: int = _MAX_ROWS) -> None:
        self.rows: dict[Key, Usage] = {}
        self._limit = limit

    def of(self, key: Key) -> Usage:
        usage = self.rows.get(key)
        if usage is None:
            if len(self.rows) >= self._limit:
                key = Key(key.account_id, OTHER, key.endpoint_id, OTHER)
            usage = self.rows.setdefault(key, Usage())
        return usage

    def add(self, other: "Bucket") -> None:
        for key, usage in other.rows.items():
            self.of(key).add(usage)


class Served:
    """Usage per endpoint and adapter since the server started; the adapters of an endpoint beyond `names` as one."""

    def __init__(self, names: int = _MAX_NAMES) -> None:
        self._names = names
        self._by_endpoint: dict[str, dict[str, Usage]] = {}

    def add(self, bucket: Bucket, endpoint_ids: Collection[str] | None = None) -> None:
        """`endpoint_ids`: only what is theirs."""
        for key, usage in bucket.rows.items():
            if endpoint_ids is not None and key.endpoint_id not in endpoint_ids:
                continue
            models = self._by_endpoint.setdefault(key.endpoint_id, {})
            model = key.model if key.model in models or len(models) < self._names else OTHER
            models.setdefault(model, Usage()).add(usage)

    def of(self, endpoint_id: str) -> dict[str, Usage]:
        """Return the usage by adapter name, "" for the base."""
        return self._by_endpoint.get(endpoint_id, {})

    def keep(self, endpoint_ids: set[str]) -> None:
        """Forget all other endpoints."""
        for gone in self._by_endpoint.keys() - endpoint_ids:
            del self._by_endpoint[gone]

    def copy(self, endpoint_ids: Collection[str]) -> "Served":
        """Return a copy with these endpoints, sharing nothing."""
        copy = Served(self._names)
        for endpoint_id in endpoint_ids:
            for model, usage in self.of(endpoint_id).items():
                copy._by_endpoint.setdefault(endpoint_id, {})[model] = fresh = Usage()
                fresh.add(usage)
        return copy
