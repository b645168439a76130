import { useEffect, useState } from "preact/hooks";
import { defineWidget, EmptyState, formatCount, Tabs, useMessages, useModel } from "../lib";
import { moveLine } from "../lib/lines";
import { GroupView } from "./group";
import "./replayer.css";
import { RunView } from "./run";
import { NOTHING, type Selection, setAll, toggle } from "./selection";
import { SendBar } from "./send";
import type { Filter, State } from "./types";

const FILTERS: Record<Filter, [name: string, meaning: string]> = {
  open: ["Open", "Dead, or not ended yet"],
  resolved: ["Resolved", "A replay went well"],
  ok: ["Recovered", "Went well on a later attempt, without a replay"],
  all: ["All", "All that ever failed"],
};

const NONE: Record<Filter, string> = {
  open: "Nothing is open: all that failed has gone well since.",
  resolved: "Nothing has been resolved by a replay yet.",
  ok: "No message that failed has gone well on a later attempt.",
  all: "",
};

function Replayer() {
  const model = useModel();
  const [state, setState] = useState<State | null>(null);
  const [filter, setFilter] = useState<Filter>("open");
  const [selection, setSelection] = useState<Selection>(NOTHING);
  const [opened, setOpened] = useState<number | null>(null);

  useMessages<{ value: State }>("groups", (message) => setState(message.value));
  useEffect(() => void model.request<State>("groups").then(setState), [model]);

  if (state === null) return null;
  if (state.groups.length === 0) {
    return (
      <>
        <EmptyState>Nothing has failed. Messages that fail show up here, grouped by error.</EmptyState>
        {state.run ? <RunView run={state.run} /> : null}
      </>
    );
  }
  const { open, resolved, ok } = state.counts;
  const counts: Record<Filter, number> = { open, resolved, ok, all: open + resolved + ok };
  const shown = state.groups.filter(
    (group) => filter === "all" || (filter === "open" ? group.open : (group.counts[filter] ?? 0)) > 0,
  );
  return (
    <>
      <div class="mv-bar mv-replayer-top">
        <Tabs
          label="Show"
          tabs={(Object.keys(FILTERS) as Filter[]).map((value) => ({
            value,
            name: (
              <>
                {FILTERS[value][0]} <span class="mv-count">{counts[value].toLocaleString("en")}</span>
              </>
            ),
            testid: `filter-${value}`,
            title: FILTERS[value][1],
          }))}
          chosen={filter}
          onChoose={setFilter}
        />
        <span class="mv-dim mv-replayer-sum" data-testid="summary">
          {open === 0 ? "Everything that failed has gone well since." : `in ${kinds(shown.length)}`}
        </span>
      </div>
      <div class="mv-replayer-list" onKeyDown={moveLine}>
        {shown.map((group) => (
          <GroupView
            key={group.key}
            group={group}
            filter={filter}
            selection={selection}
            onToggle={(key) => setSelection(toggle(selection, group.key, key))}
            onAll={(all) => setSelection(setAll(selection, group.key, all))}
            opened={opened}
            onOpen={(key) => setOpened(opened === key ? null : key)}
            startsOpen={shown.length <= 3}
          />
        ))}
        {shown.length === 0 ? (
          <EmptyState testid="empty-filter">
            {NONE[filter]}
          </EmptyState>
        ) : null}
        {state.more ? <div class="mv-replayer-more mv-dim">and {formatCount(state.more, "more group")}</div> : null}
      </div>
      {state.run ? <RunView run={state.run} /> : null}
      <SendBar
        selection={selection}
        open={open}
        running={state.run?.running ?? false}
        onClear={() => setSelection(NOTHING)}
      />
    </>
  );
}

const kinds = (count: number): string => `${count.toLocaleString("en")} ${count === 1 ? "group" : "groups"}`;

export default defineWidget("replayer", Replayer);
