"""Dashboard: the widgets of a log together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import ipywidgets

from msgviz import html
from msgviz.widgets._base import STATIC, Widget
from msgviz.widgets.inspector import Inspector
from msgviz.widgets.publisher import Publisher
from msgviz.widgets.replayer import Replayer
from msgviz.widgets.table import MessageTable

if TYPE_CHECKING:
    from msgviz.backend import Backend
    from msgviz.log import MessageLog

_PAUSE = 0.1  # seconds between two updates of the counts
_ENDED = 3  # servers that ended with an error, of which the header tells


class Header(Widget):
    """One line: how many messages are in each state, and how many events were dropped."""

    _esm = STATIC / "dashboard.js"
    _css = STATIC / "dashboard.css"

    def __init__(self, log: MessageLog, backend: Backend | None = None) -> None:
        super().__init__()
        self._log = log
        self._backend = backend
        self.handle("counts", self._content)
        self.bridge.on_change(lambda: (log.revision, len(log.server_failures)), self._flush)

    async def _flush(self) -> None:
        if self.shown:
            self.send({"op": "counts", "value": self._content()})
            await asyncio.sleep(_PAUSE)

    def _content(self) -> dict[str, Any]:
        counts = self._log.count_states()
        return {
            "backend": self._backend.name if self._backend is not None else None,
            "events": len(self._log),
            "messages": sum(counts.values()),
            "states": [(state, count) for state, count in counts.items() if count],
            "dropped": self._log.dropped,
            "ended": [
                {
                    "place": str(source),
                    "error": f"{failure.error_type}: {failure.error}"[:500],
                }
                for source, failure in list(self._log.server_failures.items())[-_ENDED:]
            ],
        }


class Dashboard(ipywidgets.VBox):  # type: ignore[misc]
    """A form to publish, the events as they happen, one message in full, and what failed, on one page.

    A click in the table shows the message in the inspector, whose "Copy into the form" fills the
    publisher. `publisher`, `table`, `inspector` and `replayer` are the parts.
    """

    _inside: tuple[ipywidgets.DOMWidget, ...] = ()

    def __init__(self, log: MessageLog, backend: Backend | None = None) -> None:
        """Show `log`, and the name of the `backend`; `ValueError` for one that `log` does not observe."""
        if backend is not None and getattr(backend, "observed_by", None) is not log:
            raise ValueError(
                "this backend is not observed by this log: pass what mv.observe(backend, log) returns"
            )
        self._log = log
        self.header = Header(log, backend)
        self.publisher = Publisher(log=log)
        self.table = MessageTable(log)
        self.inspector = Inspector(log)
        self.replayer = Replayer(log)
        for name, part in self._parts().items():
            part.add_class("mv-dashboard-part")
            part.add_class(f"mv-dashboard-{name}")
        left = ipywidgets.VBox([self.publisher, self.inspector])
        right = ipywidgets.VBox([self.table, self.replayer])
        columns = ipywidgets.Box([left, right])
        columns.add_class("mv-dashboard-columns")
        super().__init__([self.header, columns])
        self.add_class("mv-dashboard-frame")
        self._inside = (self.header, *self._parts().values(), columns, left, right)
        self.inspector.on_copy(self.publisher.fill)
        self.table.observe(self._inspect, "message_id")
        self.publisher.observe(self._inspect, "message_id")

    def _parts(self) -> dict[str, Widget]:
        return {
            "publisher": self.publisher,
            "table": self.table,
            "inspector": self.inspector,
            "replayer": self.replayer,
        }

    def _inspect(self, change: dict[str, Any]) -> None:
        if change["new"] is not None:
            self.inspector.message_id = change["new"]

    def close(self) -> None:
        """Stop following the log and take all parts off the page."""
        for widget in self._inside:
            widget.close()
        super().close()

    def _repr_html_(self) -> str:
        """Return what a page without a kernel shows: the counts, the failures and the last events."""
        failures = self.replayer._repr_html_() if not self._log.failures.empty else ""
        return html.Html(failures) + self._log._repr_html_()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**super()._repr_mimebundle_(**kwargs), "text/html": self._repr_html_()}
