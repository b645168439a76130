import { useEffect, useRef, useState } from "preact/hooks";
import { Button, EmptyState, ErrorLine, Field, formatSize, formatTime, StateBadge, useMessages, useModel } from "../lib";
import "./picker.css";
import type { Recent } from "./types";

const TYPING = 200; // milliseconds after the last key before the kernel is asked
const AGAIN = 500; // milliseconds between two looks at what is new

interface Props {
  selected: string | null;
  onPick: (id: string) => void;
}

/** The messages whose layers were observed, the newest first, to choose one. */
export function Picker({ selected, onPick }: Props) {
  const model = useModel();
  const [search, setSearch] = useState("");
  const [recent, setRecent] = useState<Recent | null>(null);
  const [begun, setBegun] = useState(0);
  // The pointer or the keyboard is in the list: it stays as it is.
  const [pointed, setPointed] = useState(false);
  const [focused, setFocused] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const list = useRef<HTMLUListElement>(null);
  const asked = useRef(0);

  const load = (): void => {
    const turn = ++asked.current;
    model
      .request<Recent>("recent", { search })
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
  const held = pointed || focused || search !== "";
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

  const pressed = (event: KeyboardEvent): void => {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (step === 0) return;
    event.preventDefault();
    event.stopPropagation();
    const buttons = [...(list.current?.querySelectorAll("button") ?? [])];
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    buttons[Math.max(0, Math.min(buttons.length - 1, at + step))]?.focus();
  };
  const submit = (): void => {
    const text = search.trim();
    const only = recent?.items.length === 1 ? recent.items[0]?.id : undefined;
    if (text !== "") onPick(only ?? text);
  };

  if (recent !== null && recent.items.length === 0 && recent.begun === 0 && search === "") {
    return (
      <EmptyState>
        No layers were observed yet. Observe a chain with <code>layers=True</code>, such as{" "}
        <code>mv.observe(backend, log, layers=True)</code>, then publish a message.
      </EmptyState>
    );
  }
  return (
    <div class="mv-chainview-picker" data-testid="picker" onKeyDown={pressed}>
      <div class="mv-bar">
        <span class="mv-dim" data-testid="said">
          {search !== ""
            ? "Found"
            : stale && pointed
              ? "Newer messages come when the pointer leaves the list"
              : "Messages whose layers were observed, the newest first"}
        </span>
        <div class="mv-fill">
          <Field
            label="Search by id"
            hideLabel
            type="search"
            code
            placeholder="Search by id"
            value={search}
            onInput={setSearch}
            onSubmit={submit}
            testid="search"
          />
        </div>
        {stale && held && !pointed ? (
          <Button testid="newer" onClick={load}>
            Show newer
          </Button>
        ) : null}
      </div>
      {error === null ? null : <ErrorLine>{error}</ErrorLine>}
      {recent === null ? null : recent.items.length === 0 ? (
        <EmptyState testid="no-match">No message whose layers were observed has this in its id.</EmptyState>
      ) : (
        <ul
          ref={list}
          data-testid="recent"
          onPointerEnter={() => setPointed(true)}
          onPointerLeave={() => setPointed(false)}
          onFocusIn={() => setFocused(true)}
          onFocusOut={() => setFocused(false)}
        >
          {recent.items.map((item) => (
            <li key={item.id}>
              <button
                type="button"
                data-testid="recent-message"
                data-message-id={item.id}
                aria-current={item.id === selected}
                onClick={() => onPick(item.id)}
              >
                <span class="mv-chainview-when">{item.time === null ? "" : formatTime(item.time)}</span>
                <StateBadge state={item.state ?? "unknown"} />
                <bdi class="mv-chainview-name">{item.topic ?? "no topic"}</bdi>
                <span class="mv-code mv-chainview-name">{item.id}</span>
                <span class="mv-chainview-size">{item.size === null ? "" : formatSize(item.size)}</span>
                <span class="mv-chainview-name" data-testid="recent-problem">
                  {item.problem === null ? null : (
                    <>
                      <span class="mv-chainview-cross" aria-hidden="true">
                        ✕
                      </span>{" "}
                      problem in <bdi>{item.problem}</bdi>
                    </>
                  )}
                </span>
              </button>
            </li>
          ))}
        </ul>
      )}
      {recent?.more ? (
        <div class="mv-dim mv-chainview-more">There are more: search by id, or set chainview.message_id.</div>
      ) : null}
    </div>
  );
}
