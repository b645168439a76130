import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Button, formatCount, formatDuration, formatSize, formatTime, StateBadge, useModel } from "../lib";
import { type Row, type Rows, shortName, type TableState } from "./rows";

const NARROW = 560; // pixels; below, a row has two lines
const MAX_HEIGHT = 12_000_000; // pixels; browsers draw nothing beyond about 17 million

const COLUMNS: [name: string, label: string][] = [
  ["time", "Time"],
  ["operation", "Operation"],
  ["place", "Topic"],
  ["message", "Message"],
  ["attempt", "Try"],
  ["outcome", "Outcome"],
  ["error", "Error"],
  ["size", "Size"],
  ["duration", "Duration"],
  ["body", "Body"],
];

interface GridProps {
  state: TableState;
  rows: Rows;
  height: number;
}

/** The rows in view. It follows the newest until a person scrolls away from them. */
export function Grid({ state, rows, height }: GridProps) {
  const model = useModel();
  const scroller = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0); // the first row in view, with its fraction
  const [size, setSize] = useState({ width: 1000, height });
  const following = useRef(true);
  const [seen, setSeen] = useState(0); // rows there were when the person scrolled away
  const [focus, setFocus] = useState<{ index: number; id: number } | null>(null);
  const anchor = useRef<{ index: number; id: number } | null>(null);

  const awaited = useRef<{ index: number; how: "only" | "range" } | null>(null);

  const rowHeight = size.width < NARROW ? 42 : 24;
  const count = state.matched;
  const visible = size.height / rowHeight;
  const lastTop = Math.max(0, count - visible);
  const drawn = Math.min(count * rowHeight, MAX_HEIGHT);
  // Pixels of scrolling per row: the height of a row, or less where there are too many of them.
  const scale = lastTop > 0 ? Math.max(0, drawn - size.height) / lastTop : rowHeight;
  const at = following.current ? lastTop : Math.min(top, lastTop);
  const first = Math.max(0, Math.floor(at));
  const end = Math.min(count, Math.ceil(at + visible));

  useLayoutEffect(() => {
    const element = scroller.current;
    if (element === null) return;
    const observer = new ResizeObserver(() =>
      setSize({ width: element.clientWidth, height: element.clientHeight }),
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    const element = scroller.current;
    if (element && Math.abs(element.scrollTop - at * scale) > 1) element.scrollTop = at * scale;
  });
  useEffect(() => rows.want(first, end));
  // Another filter: other rows at other places.
  useEffect(() => {
    setFocus(null);
    anchor.current = null;
  }, [state.generation]);

  const scrolled = (): void => {
    const element = scroller.current;
    if (element === null) return;
    const now = scale > 0 ? element.scrollTop / scale : 0;
    const wasFollowing = following.current;
    following.current = now >= lastTop - 2 / rowHeight;
    if (wasFollowing && !following.current) setSeen(count);
    setTop(now);
  };
  const goTo = (row: number): void => {
    following.current = row >= lastTop;
    setTop(Math.max(0, Math.min(row, lastTop)));
    setSeen(count);
  };

  const select = (index: number, how: "only" | "toggle" | "range"): void => {
    const row = rows.get(index);
    if (row === undefined) return;
    const here = { index, id: row.event_id };
    const start = anchor.current ?? here;
    setFocus(here);
    if (how === "range") {
      const [low, high] = [Math.min(start.index, index), Math.max(start.index, index)];
      rows.mark((other) => other >= low && other <= high);
    } else {
      rows.mark((other, { selected }) => (other === index ? how === "only" || !selected : how === "toggle" && selected));
    }
    if (how !== "range") anchor.current = here;
    model.send("select", { view: model.view, mode: how, event_id: here.id, anchor: start.id });
  };
  const selectAll = (all: boolean): void => {
    rows.mark(() => all);
    if (!all) setFocus(null);
    anchor.current = null;
    model.send("select", { view: model.view, mode: all ? "all" : "none" });
  };
  /** Selects the row that a key led to, now or once it has come from the kernel. */
  const selectAwaited = (): void => {
    if (awaited.current === null || rows.get(awaited.current.index) === undefined) return;
    const { index, how } = awaited.current;
    awaited.current = null;
    select(index, how);
  };
  useEffect(selectAwaited);
  const step = (index: number, how: "only" | "range"): void => {
    const target = Math.max(0, Math.min(count - 1, index));
    if (target < at) goTo(target);
    else if (target + 1 > at + visible) goTo(target + 1 - visible);
    awaited.current = { index: target, how };
    selectAwaited();
  };
  const pressed = (event: KeyboardEvent): void => {
    const now = awaited.current?.index ?? focus?.index ?? (following.current ? count : first - 1);
    const page = Math.max(1, Math.floor(visible) - 1);
    const moves: Record<string, number> = {
      ArrowDown: now + 1,
      ArrowUp: now - 1,
      PageDown: now + page,
      PageUp: now - page,
      Home: 0,
      End: count - 1,
    };
    const move = moves[event.key];
    if (move !== undefined && count > 0) step(move, event.shiftKey ? "range" : "only");
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) selectAll(true);
    else if (event.key === "Escape") selectAll(false);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const clicked = (event: MouseEvent, index: number): void =>
    select(index, event.shiftKey ? "range" : event.ctrlKey || event.metaKey ? "toggle" : "only");

  const missed = count - seen;
  return (
    <div
      class={`mv-table-grid${rowHeight === 24 ? "" : " mv-table-narrow"}`}
      role="grid"
      aria-label="Events"
      aria-rowcount={count}
      aria-multiselectable="true"
      data-testid="rows"
      tabIndex={0}
      aria-activedescendant={focus ? `${model.view}-${focus.id}` : undefined}
      onKeyDown={pressed}
    >
      <div class="mv-table-head" role="row">
        {COLUMNS.map(([name, label]) => (
          <span key={name} class={`mv-c-${name}`} role="columnheader">
            {label}
          </span>
        ))}
      </div>
      <div class="mv-table-scroll" ref={scroller} onScroll={scrolled} style={{ height: `${Math.floor(height / rowHeight) * rowHeight}px` }}>
        <div class="mv-table-space" role="presentation" style={{ height: `${drawn}px` }}>
          <div
            role="presentation"
            style={{ transform: `translateY(${Math.round(at * scale - (at - first) * rowHeight)}px)` }}
          >
            {Array.from({ length: end - first }, (_, offset) => {
              const index = first + offset;
              return (
                <RowLine
                  key={index}
                  index={index}
                  row={rows.get(index)}
                  view={model.view}
                  focused={focus?.index === index}
                  height={rowHeight}
                  onClick={clicked}
                />
              );
            })}
          </div>
        </div>
      </div>
      {!following.current && at < lastTop ? (
        <div class="mv-table-latest">
          <Button kind="primary" testid="latest" onClick={() => goTo(count)}>
            ↓ {missed > 0 ? formatCount(missed, "new event") : "Latest"}
          </Button>
        </div>
      ) : null}
    </div>
  );
}

interface RowLineProps {
  index: number;
  row: Row | undefined;
  view: string;
  focused: boolean;
  height: number;
  onClick: (event: MouseEvent, index: number) => void;
}

function RowLine({ index, row, view, focused, height, onClick }: RowLineProps) {
  return (
    <div
      id={row ? `${view}-${row.event_id}` : undefined}
      class={`mv-table-row${focused ? " mv-table-focus" : ""}${row?.error_type ? " mv-table-failed" : ""}`}
      role="row"
      aria-rowindex={index + 1}
      aria-selected={row?.selected ?? false}
      data-testid="row"
      data-event={row?.event_id}
      style={{ height: `${height}px` }}
      onClick={(event) => onClick(event, index)}
    >
      {row === undefined ? null : row.time === undefined ? <Gone /> : <Cells row={row} />}
    </div>
  );
}

function Gone() {
  return (
    <span class="mv-table-gone mv-dim" role="gridcell">
      This event is no longer in the log.
    </span>
  );
}

function Cells({ row }: { row: Row }) {
  const said = row.error ? `: ${row.error}` : "";
  return (
    <>
      <Cell name="time" title={formatTime(row.time ?? 0, true)}>
        {formatTime(row.time ?? 0)}
      </Cell>
      <Cell name="operation">{row.operation}</Cell>
      <Cell name="place" title={[row.topic, row.subscription].filter(Boolean).join(" → ")}>
        {row.topic}
        {row.subscription ? <span class="mv-dim"> → {row.subscription}</span> : null}
      </Cell>
      <Cell name="message" title={row.message_id}>
        {row.message_id}
      </Cell>
      <Cell name="attempt">{row.attempt}</Cell>
      <Cell name="outcome">
        <StateBadge state={row.outcome ?? ""} />
      </Cell>
      <Cell name="error" title={row.error_type ? row.error_type + said : undefined}>
        {row.error_type ? shortName(row.error_type) + said : ""}
      </Cell>
      <Cell name="size">{formatSize(row.size ?? 0)}</Cell>
      <Cell name="duration">{formatDuration(row.duration ?? 0)}</Cell>
      <Cell name="body">{row.body === null ? <i>not kept</i> : row.body}</Cell>
    </>
  );
}

function Cell({ name, title, children }: { name: string; title?: string | undefined; children: ComponentChildren }) {
  return (
    <span class={`mv-c-${name}`} role="gridcell" title={title}>
      {children}
    </span>
  );
}
