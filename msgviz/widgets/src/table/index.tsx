import { Button, defineWidget, EmptyState, formatCount, useTrait } from "../lib";
import { Facets, QueryField, SearchField, useFacets } from "./filters";
import { Grid } from "./grid";
import { useTable } from "./rows";
import "./table.css";

function MessageTable() {
  const { state, ready, rows, progress } = useTable();
  const [paused, setPaused] = useTrait<boolean>("paused");
  const [height] = useTrait<number>("height");
  const [search, setSearch] = useTrait<string>("search");
  const [query, setQuery] = useTrait<string>("query");
  const [facets, setFacets] = useFacets();
  const filtered = search !== "" || query !== "" || Object.values(facets).some((values) => values.length > 0);
  const clear = (): void => {
    setSearch("");
    setQuery("");
    setFacets({});
  };
  return (
    <>
      <div class="mv-bar mv-table-bar">
        <div class="mv-fill">
          <SearchField />
        </div>
        <div class="mv-fill mv-table-query">
          <QueryField />
        </div>
        <Button testid="pause" pressed={paused} onClick={() => setPaused(!paused)}>
          {paused ? `Resume${state.waiting ? ` (${state.waiting.toLocaleString("en")} new)` : ""}` : "Pause"}
        </Button>
      </div>
      <div class="mv-table-facets">
        <Facets counts={state.counts} />
      </div>
      {state.matched > 0 ? (
        <Grid state={state} rows={rows} height={height} />
      ) : (
        <div class="mv-table-none" style={{ height: `${height}px` }}>
          {!ready ? (
            <EmptyState testid="waiting">Waiting for the kernel.</EmptyState>
          ) : state.total === 0 ? (
            <EmptyState>
              No events yet. Publish to a topic of an observed backend, such as{" "}
              <code>await topic.publish(b"hello")</code>.
            </EmptyState>
          ) : (
            <EmptyState testid="no-match">
              None of {formatCount(state.total, "event")} {state.waiting > 0 ? "was there when you paused" : "matches"}.{" "}
              {filtered ? (
                <Button testid="clear-all" onClick={clear}>
                  Show all
                </Button>
              ) : null}
            </EmptyState>
          )}
        </div>
      )}
      {state.total === 0 ? null : (
        <div class="mv-table-foot" data-testid="summary">
          <span role="status">
            {filtered || paused
              ? `${state.matched.toLocaleString("en")} of ${formatCount(state.total, "event")}`
              : formatCount(state.total, "event")}
            {state.selected ? ` · ${state.selected.toLocaleString("en")} selected` : ""}
            {state.dropped ? ` · ${formatCount(state.dropped, "older event")} dropped` : ""}
          </span>
          {progress === null ? null : <progress value={progress} aria-label="Searching" />}
          {filtered && state.matched > 0 ? (
            <Button kind="quiet" testid="clear" onClick={clear}>
              Show all
            </Button>
          ) : null}
        </div>
      )}
    </>
  );
}

export default defineWidget("table", MessageTable);
