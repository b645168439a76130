import { useEffect, useRef, useState } from "preact/hooks";
import { Button, EmptyState, ErrorLine, formatCount, formatTime, StateBadge, useMessages, useModel } from "../lib";
import type { Recent } from "./types";

const AGAIN = 500; // milliseconds between two looks at what is new

interface Props {
  selected: string | null;
  onPick: (id: string) => void;
}

/** The newest conversations, to choose one. */
export function Picker({ selected, onPick }: Props) {
  const model = useModel();
  const [recent, setRecent] = useState<Recent | null>(null);
  const [begun, setBegun] = useState(0);
  // The pointer or the keyboard is in the list: it stays as it is.
  const [pointed, setPointed] = useState(false);
  const [focused, setFocused] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const list = useRef<HTMLUListElement>(null);

  const load = (): void => {
    model
      .request<Recent>("recent")
      .then((found) => {
        setError(null);
        setRecent(found);
        setBegun((now) => Math.max(now, found.begun));
      })
      .catch((problem: Error) => setError(problem.message));
  };
  useMessages<{ value: number }>("begun", ({ value }) => setBegun(value));
  useEffect(load, [model]);
  const held = pointed || focused;
  const stale = recent !== null && begun > recent.begun;
  useEffect(() => {
    if (!stale || held) return;
    const timer = setTimeout(load, AGAIN);
    return () => clearTimeout(timer);
  }, [stale, held, recent]);

  const pressed = (event: KeyboardEvent): void => {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (step === 0) return;
    event.preventDefault();
    event.stopPropagation();
    const buttons = [...(list.current?.querySelectorAll("button") ?? [])];
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    buttons[Math.max(0, Math.min(buttons.length - 1, at + step))]?.focus();
  };

  if (recent !== null && recent.items.length === 0) {
    return (
      <EmptyState>
        Nothing was observed yet. Observe a backend with <code>mv.observe(backend, log)</code>, then publish a
        message: its conversation appears here to be chosen.
      </EmptyState>
    );
  }
  return (
    <div class="mv-timeline-picker" data-testid="picker" onKeyDown={pressed}>
      <div class="mv-bar">
        <span class="mv-fill mv-dim">Choose a conversation; the newest first</span>
        {stale && held ? (
          <Button testid="newer" kind="quiet" onClick={load}>
            Show newer
          </Button>
        ) : null}
      </div>
      {error === null ? null : <ErrorLine>{error}</ErrorLine>}
      <ul
        ref={list}
        data-testid="recent"
        onPointerEnter={() => setPointed(true)}
        onPointerLeave={() => setPointed(false)}
        onFocusIn={() => setFocused(true)}
        onFocusOut={() => setFocused(false)}
      >
        {recent?.items.map((item) => (
          <li key={item.id}>
            <button
              type="button"
              data-testid="conversation"
              data-message-id={item.id}
              aria-current={item.id === selected}
              onClick={() => onPick(item.id)}
            >
              <span class="mv-timeline-when">{formatTime(item.time)}</span>
              <StateBadge state={item.state ?? "unknown"} />
              <bdi class="mv-timeline-name">{item.topic ?? "no topic"}</bdi>
              <span class="mv-timeline-when">{formatCount(item.messages, "message")}</span>
              <span class="mv-timeline-bad">{item.failed > 0 ? `✕ ${item.failed} failed` : ""}</span>
              <span class="mv-code mv-dim mv-timeline-name">{item.id}</span>
            </button>
          </li>
        ))}
      </ul>
      {recent?.more ? (
        <div class="mv-dim mv-timeline-more">There may be older ones: set timeline.message_id.</div>
      ) : null}
    </div>
  );
}
