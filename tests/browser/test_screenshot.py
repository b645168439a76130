"""The picture of the README: a dashboard on a flow of orders, as it really looks.

MSGVIZ_SCREENSHOT=notebooks/dashboard.png makes a new one.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.browser.lab import Lab

FLOW = """
import asyncio, random
import msgviz as mv

random.seed(7)
log = mv.MessageLog()
backend = mv.observe(mv.connect("memory://"), log)
orders, payments, parcels = (backend.topic(name) for name in ("orders", "payments", "parcels"))
billing = backend.server("orders", subscription="billing", concurrency=4, max_attempts=2, backoff=0.004)
stock = backend.server("orders", subscription="stock")
mailer = backend.server("payments", subscription="mailer", max_attempts=2, backoff=0.004)
carrier = backend.server("parcels", subscription="carrier", max_attempts=4, backoff=0.004)

class CardDeclined(Exception):
    pass

async def charge(message):
    order = message.json()
    await asyncio.sleep(random.uniform(0.001, 0.004))
    if order["amount"] <= 0:
        raise ValueError(f"amount must be positive, not {order['amount']}")
    if order["customer"] == "mallory":
        raise CardDeclined("card ending in 0341 was declined")
    await payments.publish(json={"order": order["id"], "paid": order["amount"]})

async def reserve(message):
    order = message.json()
    await asyncio.sleep(0.001)
    await parcels.publish(json={"order": order["id"], "to": order["customer"]})

async def thank(message):
    await asyncio.sleep(0.001)
    if message.json()["order"] % 9 == 0:
        raise ConnectionRefusedError("[Errno 111] Connect call failed ('10.0.4.7', 25)")

async def send(message):
    await asyncio.sleep(0.002)
    if message.attempt == 1 and message.json()["order"] % 5 == 0:
        raise TimeoutError("the carrier did not answer within 2 s")

billing.start(charge)
stock.start(reserve)
mailer.start(thank)
carrier.start(send)

async def order(number, customer, amount):
    body = {"id": number, "customer": customer, "amount": amount, "items": random.randrange(1, 6)}
    source = random.choice(["web", "app", "shop"])
    await orders.publish(json=body, attributes={"Source": source, "Region": "eu-1"})

customers = ["ada", "grace", "linus", "barbara", "edsger", "katherine"]
for number in range(1041, 1081):
    customer = "mallory" if number in (1046, 1058, 1062, 1075) else random.choice(customers)
    await order(number, customer, -5 if number % 13 == 0 else random.randrange(5, 250))
await log.settled()
"""

REPLAY = """
async def thank(message):
    pass

mailer.start(thank)
await log.replay(log.messages.query("topic == 'payments' and state == 'dead'"))
await order(1081, "grace", 59)
await order(1082, "mallory", 249)
await log.settled()
"""

SHOW = "dashboard = mv.Dashboard(log, backend)\ndashboard.table.height = 300\ndashboard"


@pytest.mark.looks
def test_the_picture_of_the_readme(lab: Lab, tmp_path: Path) -> None:
    path = Path(os.environ.get("MSGVIZ_SCREENSHOT") or tmp_path / "dashboard.png")
    lab.page.set_viewport_size({"width": 1580, "height": 1400})
    book = lab.run([FLOW, REPLAY, SHOW])
    header, table, replayer = (book.widget(name) for name in ("dashboard", "table", "replayer"))
    for state in ("ok", "dead", "resolved"):
        expect(header.get_by_test_id(f"count-{state}")).to_be_visible()
    table.get_by_role("row").filter(has_text="CardDeclined").last.click()
    expect(book.widget("inspector")).to_contain_text("mallory")
    declined = replayer.get_by_test_id("group").filter(has_text="CardDeclined")
    declined.get_by_test_id("group-select").check()
    expect(replayer.get_by_test_id("replay")).to_have_text("Replay 5 messages")
    lab.page.mouse.move(0, 0)
    book.output.locator(".mv-dashboard-frame").screenshot(path=path, animations="disabled")

    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    width, height = struct.unpack(">II", data[16:24])
    assert 1300 <= width <= 1500
    assert 600 <= height <= 1400
    assert 30_000 < len(data) < 250_000
