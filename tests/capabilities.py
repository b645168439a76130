"""What each system can do, as the README tells it: ``python -m tests.capabilities`` writes it there anew."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgviz

README = Path(__file__).resolve().parents[1] / "README.md"
_YEARS = 10 * 365.25 * 86400
BEGIN, END = "<!-- made by python -m tests.capabilities -->", "<!-- end -->"


class System(NamedTuple):
    """One system: how it is named, where its backend is, and what stood behind it in the tests."""

    url: str
    system: str
    extra: str | None
    tested_on: str


SYSTEMS = (
    System("memory://", "this process", None, "itself"),
    System("sqlite:///flow.db", "an SQLite file", None, "itself"),
    System("nats://host:4222", "NATS JetStream", "nats", "real broker 2.15, alone and as a cluster"),
    System("amqp://host:5672", "RabbitMQ", "amqp", "real broker 3.10"),
    System("redis://host:6379", "Redis Streams, Valkey", "redis", "real servers, Redis 7.0 and Valkey 9.1"),
    System("aws://region", "AWS SNS and SQS", "aws", "emulations by others: moto, ministack"),
    System("gcp://project", "Google Cloud Pub/Sub", "gcp", "the vendor's emulator"),
    System("kafka://host:9092", "Kafka", "kafka", "an emulation by others: tansu"),
)


def table() -> str:
    """Two tables in Markdown: what stood behind each system in the tests, and what it can do."""
    lines = ["| URL | system | install | tested on |", "|---|---|---|---|"]
    for one in SYSTEMS:
        install = f'`pip install "msgviz[{one.extra}]"`' if one.extra else "nothing more"
        lines.append(f"| `{one.url}` | {one.system} | {install} | {one.tested_on} |")
    names = [one.url.partition(":")[0] for one in SYSTEMS]
    lines += ["", f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    every = [msgviz.connect(one.url).features for one in SYSTEMS]  # none of them connects yet
    for what, cell in (
        ("order of one publisher's messages is kept", lambda f: _yes(f.ordered)),
        ("messages outlive their publisher", lambda f: _yes(f.persistent)),
        ("a message published before there is a subscription waits", lambda f: _yes(f.keeps_unsubscribed)),
        ("longest delay", lambda f: _seconds(f.max_delay)),
        ("several values for an attribute", lambda f: _yes(f.multi_valued_attributes)),
        ("most attributes", lambda f: "any" if f.max_attributes is None else str(f.max_attributes)),
        ("largest body", lambda f: _size(f.max_body)),
        ("a body may be any bytes", lambda f: _yes(f.binary_body)),
        ("attempts are counted", lambda f: _yes(f.counts_attempts)),
        ("dead letters, and their redrive", lambda f: _yes(f.dead_letter)),
        ("a replay goes to one subscription alone", lambda f: _yes(f.addressable_subscriptions)),
    ):  # fmt: skip
        lines.append(f"| {what} | {' | '.join(cell(f) for f in every)} |")
    return "\n".join(lines)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _seconds(value: float) -> str:
    if not value:
        return "none"
    if value > _YEARS:
        return "any"
    return f"{value / 86400:.0f} days" if value >= 2 * 86400 else f"{value:g} s"


def _size(value: int | None) -> str:
    if value is None:
        return "any"
    unit, name = (1 << 20, "MiB") if value >= 1 << 20 else (1 << 10, "KiB")
    return f"{value // unit} {name}"


def told() -> str:
    """What the README says now."""
    return README.read_text().partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    """Write the tables into the README."""
    before, _, rest = README.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    main()
