import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Button, defineWidget, EmptyState, ErrorLine, useMessages, useModel, useTrait } from "../lib";
import "./flowgraph.css";
import { Legend } from "./legend";
import { beside, elements, parse, show } from "./picture";

function FlowGraph() {
  const model = useModel();
  const [picture, setPicture] = useState<string | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [selected] = useTrait<string>("_selected");
  const [filters] = useTrait<boolean>("_filters");
  const [legend, setLegend] = useState(false);
  const [name, setName] = useState("");
  const host = useRef<HTMLDivElement>(null);

  useMessages<{ value: string }>("picture", ({ value }) => setPicture(value));
  useEffect(() => {
    model
      .request<string>("show")
      .then(setPicture)
      .catch((problem: Error) => setError(problem.message));
  }, [model]);

  useLayoutEffect(() => {
    const root = picture ? parse(picture) : null;
    if (host.current === null || root === null) return;
    show(host.current, root);
    const all = elements(host.current);
    // One stop for the Tab key; the arrows go on from there.
    if (!all.some((element) => element.getAttribute("tabindex") === "0")) all[0]?.setAttribute("tabindex", "0");
  }, [picture]);
  useLayoutEffect(() => {
    if (host.current === null) return;
    for (const element of elements(host.current)) {
      element.setAttribute("aria-pressed", String(element.dataset["key"] === selected));
      if (element.dataset["key"] === selected) setName(element.dataset["name"] ?? "");
    }
  }, [picture, selected]);

  const select = (key: string): void => {
    setError(null);
    model.request("select", { key }).catch((problem: Error) => setError(problem.message));
  };
  const chosen = (event: Event): SVGElement | null =>
    event.target instanceof Element ? event.target.closest<SVGElement>("g[data-name]") : null;
  const press = (event: KeyboardEvent): void => {
    const element = chosen(event);
    if (element === null || host.current === null) return;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key] as 1 | -1 | undefined;
    if (event.key === "Enter" || event.key === " ") select(element.dataset["key"] ?? "");
    else if (step !== undefined) beside(host.current, element, step)?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const focused = (event: FocusEvent): void => {
    const element = chosen(event);
    if (element === null || host.current === null) return;
    for (const other of elements(host.current)) other.setAttribute("tabindex", other === element ? "0" : "-1");
  };

  return (
    <>
      {error === null ? null : <ErrorLine onDismiss={() => setError(null)}>{error}</ErrorLine>}
      {picture ? (
        <div class="mv-bar mv-flowgraph-bar">
          <span class="mv-fill mv-flowgraph-said" data-testid="selected">
            {selected ? (
              <bdi title={name}>{name}</bdi>
            ) : (
              <span class="mv-dim">
                {filters ? "Click on a topic, a subscription or a line to see its events." : "Messages by topic and subscription"}
              </span>
            )}
          </span>
          <Button kind="quiet" testid="clear" disabled={!selected} onClick={() => select("")}>
            Clear selection
          </Button>
          <Button testid="legend-toggle" pressed={legend} onClick={() => setLegend(!legend)}>
            Legend
          </Button>
          <Button testid="download" onClick={() => download(picture)}>
            Download SVG
          </Button>
        </div>
      ) : null}
      {legend && picture ? <Legend /> : null}
      {picture === "" ? (
        <EmptyState>
          Nothing was observed yet. Observe a backend with <code>mv.observe(backend, log)</code>, then publish a
          message: topics, subscriptions and receivers appear here as messages pass.
        </EmptyState>
      ) : null}
      <div
        class="mv-flowgraph-picture"
        data-testid="picture"
        role="group"
        aria-label="Flow of messages"
        hidden={!picture}
        ref={host}
        onClick={(event) => {
          const element = chosen(event);
          if (element !== null) select(element.dataset["key"] ?? "");
        }}
        onKeyDown={press}
        onFocusIn={focused}
      />
    </>
  );
}

function download(picture: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([picture], { type: "image/svg+xml" }));
  link.download = "flow.svg";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export default defineWidget("flowgraph", FlowGraph);
