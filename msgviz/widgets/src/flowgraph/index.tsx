import { useLayoutEffect, useState } from "preact/hooks";
import { Button, defineWidget, EmptyState, ErrorLine, useModel, useShown, useTrait } from "../lib";
import { download, elements, usePicture } from "../lib/picture";
import "./flowgraph.css";
import { Legend } from "./legend";

function FlowGraph() {
  const model = useModel();
  const [picture, setPicture] = useState<string | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [selected] = useTrait<string>("_selected");
  const [filters] = useTrait<boolean>("_filters");
  const [legend, setLegend] = useState(false);
  const [name, setName] = useState("");

  useShown<string>("picture", setPicture, setError);
  const select = (key: string): void => {
    setError(null);
    model.request("select", { key }).catch((problem: Error) => setError(problem.message));
  };
  const { host, handlers } = usePicture({ svg: picture, by: "key", selected, onSelect: select, beside });
  useLayoutEffect(() => {
    const element = host.current && elements(host.current).find(({ dataset }) => dataset["key"] === selected);
    if (element) setName(element.dataset["name"] ?? "");
  }, [picture, selected]);

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
          <Button testid="download" onClick={() => download(picture, "flow.svg")}>
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
        class="mv-picture mv-flowgraph-picture"
        data-testid="picture"
        role="group"
        aria-label="Flow of messages"
        hidden={!picture}
        ref={host}
        {...handlers}
      />
    </>
  );
}

/** The one after it (or before) as they stand on the page, column by column. */
function beside(host: Element, from: Element, step: 1 | -1): SVGElement | undefined {
  const placed = elements(host).map((element) => ({ element, at: element.getBoundingClientRect() }));
  placed.sort((a, b) => a.at.left - b.at.left || a.at.top - b.at.top);
  const found = placed.findIndex(({ element }) => element === from);
  return placed[found + step]?.element;
}

export default defineWidget("flowgraph", FlowGraph);
