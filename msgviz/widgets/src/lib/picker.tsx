import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { StateBadge } from "./controls";
import { formatTime } from "./format";
import { useMessages, useModel } from "./model";
import "./picker.css";

const TYPING = 200; // milliseconds after the last key before the kernel is asked
const AGAIN = 500; // milliseconds between two looks at what is new

/** What every item of a picker has; a widget's own have more. */
export interface Item {
  id: string;
  topic: string | null;
  state: string | null;
  time: number | null;
}

/** The newest items, the newest first, as the kernel tells them when it is asked. */
export interface Recent<T extends Item> {
  items: T[];
  more: boolean;
  /** How many events had begun by then. */
  begun: number;
}

/** The newest items, asked for again when there are newer ones, but not while somebody is about to choose. */
export function useRecent<T extends Item>(search?: string) {
  const model = useModel();
  const [recent, setRecent] = useState<Recent<T> | null>(null);
  const [begun, setBegun] = useState(0);
  // The pointer or the keyboard is in the list: it stays as it is.
  const [pointed, setPointed] = useState(false);
  const [focused, setFocused] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const asked = useRef(0);

  const load = (): void => {
    const turn = ++asked.current;
    model
      .request<Recent<T>>("recent", search === undefined ? {} : { search })
      .then((found) => {
        if (turn !== asked.current) return;
        setError(null);
        setRecent(found);
        setBegun((now) => Math.max(now, found.begun));
      })
      .catch((problem: Error) => setError(problem.message));
  };
  useMessages<{ value: number }>("begun", ({ value }) => setBegun(value));
  const first = useRef(true);
  useEffect(() => {
    const timer = setTimeout(load, first.current ? 0 : TYPING);
    first.current = false;
    return () => clearTimeout(timer);
  }, [search, model]);
  // A search looks at all that is kept, which may be a lot: it is not done again and again.
  const held = pointed || focused || (search ?? "") !== "";
  const stale = recent !== null && begun > recent.begun;
  useEffect(() => {
    if (!stale || held) return;
    const timer = setTimeout(load, AGAIN);
    return () => clearTimeout(timer);
  }, [stale, held, recent]);

  const none = recent !== null && recent.items.length === 0;
  useEffect(() => {
    if (!none) return; // a list that goes away does not say that it was left
    setPointed(false);
    setFocused(false);
  }, [none]);

  const watch = {
    onPointerEnter: () => setPointed(true),
    onPointerLeave: () => setPointed(false),
    onFocusIn: () => setFocused(true),
    onFocusOut: () => setFocused(false),
  };
  return { recent, error, load, stale, held, pointed, watch };
}

/** Something to choose from: a list and what stands around it. The arrow keys go through the list. */
export function PickerFrame({ children }: { children: ComponentChildren }) {
  return (
    <div class="mv-picker" data-testid="picker" onKeyDown={moveFocus}>
      {children}
    </div>
  );
}

function moveFocus(event: KeyboardEvent): void {
  const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  if (step === 0) return;
  event.preventDefault();
  event.stopPropagation();
  const buttons = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("li button")];
  const at = buttons.indexOf(document.activeElement as HTMLElement);
  buttons[Math.max(0, Math.min(buttons.length - 1, at + step))]?.focus();
}

interface ListProps<T extends Item> {
  items: T[];
  /** The id of the item that is shown now. */
  selected: string | null;
  onPick: (id: string) => void;
  /** From `useRecent`. */
  watch: ReturnType<typeof useRecent>["watch"];
  testid: string;
  /** What stands in a line after the time, the state and the topic. */
  children: (item: T) => ComponentChildren;
}

export function PickerList<T extends Item>({ items, selected, onPick, watch, testid, children }: ListProps<T>) {
  return (
    <ul data-testid="recent" {...watch}>
      {items.map((item) => (
        <li key={item.id}>
          <button
            type="button"
            data-testid={testid}
            data-message-id={item.id}
            aria-current={item.id === selected}
            onClick={() => onPick(item.id)}
          >
            <span class="mv-picker-number">{item.time === null ? "" : formatTime(item.time)}</span>
            <StateBadge state={item.state ?? "unknown"} />
            <bdi class="mv-picker-name">{item.topic ?? "no topic"}</bdi>
            {children(item)}
          </button>
        </li>
      ))}
    </ul>
  );
}
