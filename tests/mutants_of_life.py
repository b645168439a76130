"""More faults: of dead letters, of how servers and backends end, and of systems that are not there."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgviz as mv
from msgviz.message import Source, wrap
from msgviz.pull import Delivery
from tests.broker import Broker, BrokerBackend, BrokerError, BrokerServer, BrokerTopic
from tests.mutants import MUTANTS, fault

__all__ = ["MUTANTS"]


# Dead letters


@fault("never gives up", "dead letters", "one attempt", "many dead letters", "dead letters are whole",
       "dead letters at the limits", "dead for one subscription", "redrive", "redrive to the topic",
       says="never came|not 2 messages|deliver|moved 0|given")  # fmt: skip
class NeverGivesUp(BrokerServer):
    def __init__(self, backend: Any, source: Source, **options: Any) -> None:
        super().__init__(backend, Source(source.topic, source.subscription), **options)


@fault("gives up after five attempts, whatever was asked", "never given up", says="never came")
class GivesUpAfter(BrokerServer):
    async def retry(self, delivery: Delivery, delay: float) -> None:
        if delivery.message.attempt >= 5:
            await self.ack(delivery)
        else:
            await super().retry(delivery, delay)


@fault("loses a message now and then when it fails", "a flow with failures", says="never came")
class LosesAMessage(BrokerServer):
    async def retry(self, delivery: Delivery, delay: float) -> None:
        if self.broker.tick("retry") % 5:
            await super().retry(delivery, delay)
        else:
            await self.ack(delivery)


@fault("asks twice how long to wait", "back-off by attempt", says=r"asked for \[1, 1, 2, 2")
class AsksTwiceHow(BrokerServer):
    async def _failed(self, delivery: Delivery, error: BaseException) -> None:
        self.backoff(delivery.message.attempt)
        await super()._failed(delivery, error)


@fault("writes a letter every second time", "many dead letters", says="10 of 20 messages never came")
class WritesALetter(BrokerServer):
    async def bury(self, delivery: Delivery, letter: mv.Message) -> None:
        if self.broker.tick("bury") % 2:
            await super().bury(delivery, letter)
        else:
            await self.ack(delivery)


@fault("buries what was made of a message", "dead letters are whole", says="never came")
class BuriesWhatWas(BrokerServer):
    async def bury(self, delivery: Delivery, letter: mv.Message) -> None:
        await super().bury(delivery, wrap(letter.body.strip(b"\0")[:1000], letter.freeze()))


@fault("has no room for a letter's attributes", "dead letters at the limits", says="too many attributes",
       features={"max_attributes": 12})  # fmt: skip
class HasNoRoom(BrokerServer):
    async def bury(self, delivery: Delivery, letter: mv.Message) -> None:
        if len(letter.attributes) > 12:
            raise ValueError("too many attributes")
        await super().bury(delivery, letter)


@fault("writes letters that do not say why", "dead letters", says="does not say why")
class WritesLettersThat(BrokerServer):
    async def bury(self, delivery: Delivery, letter: mv.Message) -> None:
        del letter.attributes["Dead-Letter-Reason"]
        await super().bury(delivery, letter)


@fault("forgets a message that died for all", "dead for one subscription", says="never came|ended by itself")
class ForgetsAMessage(BrokerServer):
    async def bury(self, delivery: Delivery, letter: mv.Message) -> None:
        await super().bury(delivery, letter)
        for queue in self.broker.topics[self.source.topic].values():
            queue[:] = [kept for kept in queue if kept.body != delivery.body]


class _Redrives(BrokerBackend):
    async def redrive(self, topic: Any, **options: Any) -> int:
        return await super().redrive(topic, **self.changed(options))

    def changed(self, options: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


@fault("redrives as many as there are", "redrive in parts", says="with limit=")
class RedrivesAsMany(_Redrives):
    def changed(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**options, "limit": None}


@fault("redrives as fast as it can", "redrive in parts", says="with rate=20 it moved 4 letters in 0.0")
class RedrivesAsFast(_Redrives):
    def changed(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**options, "rate": None}


@fault("redrives to all subscriptions", "redrive", says="given more .*another subscription|nobody sent|once")
class RedrivesToAll(_Redrives):
    def changed(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**options, "to_topic": True}


@fault("redrives to one subscription", "redrive to the topic", says="was given 3 messages, not 6")
class RedrivesToOne(_Redrives):
    def changed(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**options, "to_topic": False}


@fault(
    "redrives for ever", "redrive what dies again", says="moved .*while they died|did not end|redriven once"
)
class RedrivesForEver(BrokerTopic):
    async def put(self, message: mv.Message, delay: float) -> None:
        message.attributes.pop("Dead-Letter-Redriven", None)
        await super().put(message, delay)


@fault("cuts attributes short", "redrive at the limits",
       says="while they died again|that die again did not end",
       features={"max_attributes": 12})  # fmt: skip
class CutsAttributesShort(BrokerTopic):
    async def send(self, message: mv.Message, delay: float) -> None:
        await super().send(wrap(message.body, dict(list(message.freeze().items())[:12])), delay)


@fault("redrives by taking first", "redrive is cancelled", says="never came")
class RedrivesByTaking(BrokerServer):
    async def take(self, count: int) -> Sequence[Delivery]:
        taken = await super().take(count + 9 if self.source.topic.endswith(".dead") else count)
        for delivery in taken if self.source.topic.endswith(".dead") else ():
            await self.ack(delivery)
        return taken

    async def release(self, delivery: Delivery) -> None:
        if not self.source.topic.endswith(".dead"):
            await super().release(delivery)


# How a server works, and ends


@fault("receives one message at a time", "concurrency", says="1 receivers run at a time, not 4")
class ReceivesOneMessage(BrokerServer):
    def __init__(self, *arguments: Any, concurrency: int, **options: Any) -> None:
        super().__init__(*arguments, concurrency=1, **options)


@fault("receives more at a time than was asked", "concurrency", says="8 receivers ran at a time, not 4")
class ReceivesMoreAt(BrokerServer):
    def __init__(self, *arguments: Any, concurrency: int, **options: Any) -> None:
        super().__init__(*arguments, concurrency=2 * concurrency, **options)


@fault("runs a plain function on the loop", "plain function", says="in the loop's own thread")
class RunsAPlain(BrokerServer):
    def set_receiver(self, receiver: Any) -> None:
        async def receive(message: mv.Message) -> None:
            result = receiver(message)
            if inspect.isawaitable(result):
                await result

        super().set_receiver(receive)


@fault("keeps its first receiver", "swap of a receiver", says="the second receiver: 10 of 10 .* never came")
class KeepsItsFirst(BrokerServer):
    def start(self, receiver: Any) -> None:
        super().start(self.receiver or receiver)


@fault(
    "serves again after its shutdown", "server closed", says="raised nothing, and no ServerClosed|did not end"
)
class ServesAgainAfter(BrokerServer):
    async def shutdown(self, timeout: float | None = None) -> None:
        await super().shutdown(timeout)
        self._closing = self._closed = False


@fault("ends without waiting for its receivers", "graceful shutdown", says="did not wait")
class EndsWithoutWaiting(BrokerServer):
    async def shutdown(self, timeout: float | None = None) -> None:
        with suppress(TimeoutError):
            await super().shutdown(0)


@fault("loses what it held when it is cancelled", "timed-out shutdown", "cancelled serving",
       "shutdown gives back at once", says="messages never came")  # fmt: skip
class LosesWhatIt(BrokerServer):
    async def release(self, delivery: Delivery) -> None:
        await self.ack(delivery)


@fault("waits for a receiver that will not end", "a receiver that will not end", says="never came")
class WaitsForAReceiver(BrokerServer):
    def abandon(self, slots: Sequence[int]) -> None:
        pass


@fault("gives back by silence", "shutdown gives back at once", says="1 of 1 messages never came")
class GivesBackBy(BrokerServer):
    async def release(self, delivery: Delivery) -> None:
        pass


@fault("does not extend a lease", "a long receiver", says="delivered 2 times")
class DoesNotExtend(BrokerServer):
    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        pass


# Backends


@fault("publishes after its end", "closed backend", says="raised nothing, and no BackendClosed")
class PublishesAfterIts(BrokerTopic):
    async def send(self, message: mv.Message, delay: float) -> None:
        await self.backend.ready(self.name) if not self.backend.closed else None
        await self.put(message, delay)


@fault("cannot be closed unused", "closed unused", says="closing the backend failed|nothing to close")
class CannotBeClosed(BrokerBackend):
    async def close(self) -> None:
        if not self._connected and not self.closed:
            self.closed = True
            raise RuntimeError("nothing to close")
        await super().close()


@fault("loses what is on its way when it is closed", "closing while publishing", says="never came")
class LosesWhatIs(BrokerBackend):
    async def close(self) -> None:
        if self._connected and not self.closed:
            for queues in self.broker.topics.values():
                for queue in queues.values():
                    del queue[-3:]
        await super().close()


@fault("tells a publisher nothing when it is closed", "closing while publishing", says="were told nothing")
class TellsAPublisher(BrokerTopic):
    async def send(self, message: mv.Message, delay: float) -> None:
        if self.backend.closed:
            await asyncio.Event().wait()
        await super().send(message, delay)


@fault("drops its receivers when it is closed", "closing while serving", says="did not let the receivers")
class DropsItsReceivers(BrokerBackend):
    async def close(self) -> None:
        for server in self._servers:
            with suppress(TimeoutError):
                await server.shutdown(0)
        await super().close()


@fault("is broken by a publish that was cancelled", "publishing after a failure", says="it raised|never came")
class IsBrokenBy(BrokerTopic):
    async def put(self, message: mv.Message, delay: float) -> None:
        try:
            await super().put(message, delay)
        except asyncio.CancelledError:
            self.backend.check_link = _broken
            raise


def _broken() -> None:
    raise BrokerError("in the middle of something else")


@fault("makes what is missing", "a topic that does not exist", says="raised nothing, and no NotFound")
class MakesWhatIs(BrokerBackend):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "create": True})


@fault("does not name what is missing", "a topic that does not exist", says="does not name it")
class DoesNotName(BrokerBackend):
    def explain(self, error: Exception) -> Any:
        known = super().explain(error)
        return mv.NotFound("there is no such thing") if isinstance(known, mv.NotFound) else known


@fault("lets errors of its library through", "no server", "wrong credentials",
       says="BrokerError.*and no ConnectionFailed")  # fmt: skip
class LetsErrorsOf(BrokerBackend):
    def explain(self, error: Exception) -> Any:
        return None


@fault("shows a password", "no server", "wrong credentials", says="shows the password")
class ShowsAPassword(BrokerBackend):
    def explain(self, error: Exception) -> Any:
        return mv.ConnectionFailed(f"{self.safe_url}: {self.password} did not help")


@fault("does not say which server is not there", "no server", says="does not name broker://me:")
class DoesNotSay(BrokerBackend):
    def explain(self, error: Exception) -> Any:
        return mv.ConnectionFailed("no")


@fault("waits for a server for ever", "no server", "wrong credentials", says="did not end within")
class WaitsForA(BrokerBackend):
    async def open(self) -> None:
        while True:
            try:
                return await super().open()
            except BrokerError:
                await asyncio.sleep(0.01)

    async def call(self, action: Any, *, timeout: float | None = None) -> Any:
        try:
            return await action
        except Exception as error:
            if (known := self.explain(error)) is not None:
                raise known from error
            raise


@fault("does not find its way back", "server restarted", says="did not end|ended by itself|never came")
class DoesNotFind(BrokerServer):
    async def open(self) -> None:
        await super().open()
        self.epoch = self.__dict__.setdefault("first", self.epoch)


@fault("loses what it has when it is killed", "server restarted", says="never came")
class LosesWhatItHas(Broker):
    async def restart(self) -> None:
        await super().restart()
        for queues in self.topics.values():
            for queue in queues.values():
                queue.clear()

    def lend(self, *arguments: Any) -> Any:
        return super().lend(*arguments) if self.tick("lend") > 400 or self.epoch else []


# What observing needs


@fault("delivers under another attempt than it was", "observed", says="the log has")
class DeliversUnderAnother(BrokerServer):
    def delivery(self, kept: Any) -> Delivery:
        kept.attempt = (
            max(kept.attempt, 2) if kept.attempt == 1 and self.broker.tick("first") == 3 else kept.attempt
        )
        return super().delivery(kept)
