"""The tables. Vocabulary and reasons: docs/structure.md."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, DateTime, Enum, ForeignKey, Index, MetaData, String, Text, TypeDecorator, text
from sqlalchemy.engine import Dialect as SqlDialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from loradock.store.actor import current_actor, key_label
from loradock.types.enums import (
    AttachmentState,
    DesiredState,
    EndpointKind,
    EndpointQuantization,
    EndpointState,
    EngineKind,
    JobStatus,
    ModelKind,
    ModelState,
    ReplicaState,
    Visibility,
)


def now() -> datetime:
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """Format a moment as the API shows it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on every database (SQLite forgets the zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: SqlDialect) -> datetime | None:
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


def _words(lifecycle: type[StrEnum]) -> list[str]:
    return [member.value for member in lifecycle]


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
        list[Any]: JSON(),
        list[str]: JSON(),
        # Lifecycles are stored as their words, so that the database reads like the API.
        StrEnum: Enum(StrEnum, native_enum=False, length=16, values_callable=_words),
    }


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    slug: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class ApiKey(Base):
    """An API key. Only its SHA-256 is kept; keys carry 256 random bits, so no slow hash is needed."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str] = mapped_column(String(128))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    hint: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=now)
    revoked_at: Mapped[datetime | None]

    account: Mapped[Account] = relationship()

    @property
    def label(self) -> str:
        return key_label(self.name, self.hint)


class BrowserSession(Base):
    """A session of somebody signed in to the dashboard with `key`. Only the SHA-256 of the cookie's value is kept."""

    __tablename__ = "browser_sessions"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]

    key: Mapped[ApiKey] = relationship()


class Model(Base):
    """An uploaded base model or adapter; `name` is `<account>/<short name>`."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str] = mapped_column(String(160), unique=True)
    kind: Mapped[ModelKind]
    state: Mapped[ModelState] = mapped_column(default=ModelState.UPLOADING)
    base_model: Mapped[str | None] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)

    account: Mapped[Account] = relationship()
    revisions: Mapped[list["Revision"]] = relationship(
        back_populates="model", cascade="all, delete-orphan", order_by="Revision.created_at"
    )


class Revision(Base):
    """Immutable content of a model. `digest` names its folder in the blob store."""

    __tablename__ = "revisions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int]
    rank: Mapped[int | None]
    target_modules: Mapped[list[str]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=now)

    model: Mapped[Model] = relationship(back_populates="revisions")


class Job(Base):
    """An upload. `model_id` is not a foreign key: a failed upload removes its model and keeps its job."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    type: Mapped[str] = mapped_column(String(32))
    status: Mapped[JobStatus] = mapped_column(default=JobStatus.QUEUED)
    status_updates: Mapped[list[Any]] = mapped_column(default=list)
    args: Mapped[dict[str, Any]] = mapped_column(default=dict)
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The step that moves bytes just now: `step`, `done` and, where it is known, `total`, both in bytes."""
    model_id: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class Endpoint(Base):
    __tablename__ = "endpoints"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str] = mapped_column(String(300), unique=True)
    display_name: Mapped[str] = mapped_column(String(300))
    kind: Mapped[EndpointKind] = mapped_column(default=EndpointKind.DEDICATED)
    visibility: Mapped[Visibility] = mapped_column(default=Visibility.PRIVATE)
    created_at: Mapped[datetime] = mapped_column(default=now)

    account: Mapped[Account] = relationship()
    deployments: Mapped[list["Deployment"]] = relationship(back_populates="endpoint", cascade="all, delete-orphan")

    @property
    def deployment(self) -> "Deployment":
        """The one deployment behind an endpoint of the v1 API."""
        return self.deployments[0]


class Deployment(Base):
    """Base model + hardware + scaling + LoRA switch behind an endpoint.

    `desired` is what the owner asked for, `state` what the control loop observed, `message` why.
    `inactive_timeout` in minutes; with `auto_start` a request to the stopped endpoint starts it.
    """

    __tablename__ = "deployments"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id"), index=True)
    base_model: Mapped[str] = mapped_column(String(200))
    hardware: Mapped[str] = mapped_column(String(100))
    availability_zone: Mapped[str | None] = mapped_column(String(64))
    min_replicas: Mapped[int] = mapped_column(default=1)
    max_replicas: Mapped[int] = mapped_column(default=1)
    inactive_timeout: Mapped[int | None]
    lora_enabled: Mapped[bool] = mapped_column(default=True)
    max_lora_rank: Mapped[int] = mapped_column(default=64)
    engine: Mapped[EngineKind] = mapped_column(default=EngineKind.EMBEDDED)
    auto_start: Mapped[bool] = mapped_column(default=False)
    quantization: Mapped[EndpointQuantization | None]
    desired: Mapped[DesiredState] = mapped_column(default=DesiredState.STARTED)
    state: Mapped[EndpointState] = mapped_column(default=EndpointState.PENDING)
    message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)

    endpoint: Mapped[Endpoint] = relationship(back_populates="deployments")
    attachments: Mapped[list["Attachment"]] = relationship(back_populates="deployment", cascade="all, delete-orphan")
    replicas: Mapped[list["Replica"]] = relationship(back_populates="deployment", cascade="all, delete-orphan")


class Attachment(Base):
    """Adapter revision → deployment. In v1 an adapter is bound to at most one endpoint (the partial index);
    one that is still draining away (DETACHING) does not stand in the way of the next."""

    __tablename__ = "attachments"
    __table_args__ = (
        Index(
            "uq_attachments_bound_model",
            "model_id",
            unique=True,
            sqlite_where=text("state != 'DETACHING'"),
            postgresql_where=text("state != 'DETACHING'"),
        ),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"), index=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    revision_id: Mapped[str] = mapped_column(ForeignKey("revisions.id"))
    engine_name: Mapped[str] = mapped_column(String(200))
    state: Mapped[AttachmentState] = mapped_column(default=AttachmentState.ATTACHING)
    created_at: Mapped[datetime] = mapped_column(default=now)

    deployment: Mapped[Deployment] = relationship(back_populates="attachments")
    model: Mapped[Model] = relationship()
    revision: Mapped[Revision] = relationship()


class Replica(Base):
    """An engine process. Its run folder, `replicas/<id>/` in the data folder, holds log and announcement.

    `settings` is the digest of what it was started with; one that differs from what is wanted now is replaced.
    """

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"), index=True)
    state: Mapped[ReplicaState] = mapped_column(default=ReplicaState.STARTING)
    secret: Mapped[str] = mapped_column(String(64))
    settings: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)

    deployment: Mapped[Deployment] = relationship(back_populates="replicas")


class Event(Base):
    """An event: who did what when; kept after the thing itself is gone."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_account_id_endpoint_id", "account_id", "endpoint_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    subject_id: Mapped[str] = mapped_column(String(64), index=True)
    kind: Mapped[str] = mapped_column(String(64))
    message: Mapped[str] = mapped_column(Text)
    endpoint_id: Mapped[str | None] = mapped_column(String(64))
    """The endpoint where an adapter was attached or detached. Not a foreign key: events stay."""
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The facts that programs read of it (`store.events.Facts`); the message is for people."""
    actor: Mapped[str] = mapped_column(String(200), default=current_actor)
    created_at: Mapped[datetime] = mapped_column(default=now)
