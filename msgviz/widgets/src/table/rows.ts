import { useState } from "preact/hooks";
import { type Channel, useMessages, useModel } from "../lib";

/** One event. All but the first two are missing where the log dropped the event meanwhile. */
export interface Row {
  event_id: number;
  selected: boolean;
  time?: number; // epoch milliseconds
  operation?: string;
  topic?: string;
  subscription?: string;
  message_id?: string;
  attempt?: number;
  outcome?: string;
  error_type?: string;
  error?: string;
  duration?: number; // seconds
  size?: number;
  body?: string | null; // its beginning; null where the log did not keep it
}

/** The name of an exception's class without its module. */
export function shortName(errorType: string): string {
  return /^[\w.]+$/.test(errorType) ? errorType.slice(errorType.lastIndexOf(".") + 1) : errorType;
}

/** What the kernel says with every change. */
export interface TableState {
  generation: number;
  total: number;
  matched: number;
  /** Events that match and came after the table was paused. */
  waiting: number;
  counts: Record<string, [value: string, count: number][]>;
  dropped: number;
  selected: number;
}

interface Window {
  generation: number;
  first: number;
  rows: Row[];
}

const KEPT = 3000; // rows remembered; others are asked for again
const AROUND = 30; // rows asked for beyond those in view, on both sides

/** The rows of a table: they stay in the kernel, here are those in view and what came lately. */
export class Rows {
  #generation = -1;
  #rows = new Map<number, Row>();
  #asked = "";

  constructor(readonly channel: Channel, readonly changed: () => void) {}

  get(index: number): Row | undefined {
    return this.#rows.get(index);
  }

  /** Takes rows that the kernel sent; those of another generation replace all that was there. */
  take({ generation, first, rows }: Window): void {
    if (generation < this.#generation) return;
    if (generation > this.#generation) {
      this.#rows.clear();
      this.#generation = generation;
      this.#asked = "";
    }
    rows.forEach((row, offset) => {
      this.#rows.delete(first + offset); // to the end of the map: the oldest go first
      this.#rows.set(first + offset, row);
    });
    for (const index of this.#rows.keys()) {
      if (this.#rows.size <= KEPT) break;
      this.#rows.delete(index);
    }
  }

  /** Asks for what is missing among these rows; one question at a time. */
  want(first: number, end: number): void {
    if (this.#asked) return;
    let missing = first;
    while (missing < end && this.#rows.has(missing)) missing += 1;
    if (missing >= end) return;
    const question = { generation: this.#generation, first: Math.max(0, first - AROUND), count: end - first + 2 * AROUND };
    const asked = `${question.generation}:${question.first}`;
    this.#asked = asked;
    this.channel
      .request<Window>("rows", question)
      .then((answer) => this.take(answer))
      .catch(() => undefined) // the widget is closed, or says itself what is wrong
      .finally(() => {
        if (this.#asked === asked) this.#asked = "";
        this.changed();
      });
  }

  /** Forgets all rows, so that those in view are asked for again. */
  forget(): void {
    this.#rows.clear();
    this.#asked = "";
  }

  /** Changes which of the rows at hand are selected, before the kernel knows of it. */
  mark(selected: (index: number, row: Row) => boolean): void {
    for (const [index, row] of this.#rows) {
      const now = selected(index, row);
      if (now !== row.selected) this.#rows.set(index, { ...row, selected: now });
    }
  }
}

const NOTHING: TableState = {
  generation: -1,
  total: 0,
  matched: 0,
  waiting: 0,
  counts: {},
  dropped: 0,
  selected: 0,
};

/** The table as the kernel tells it: undefined until it has told for the first time. */
export function useTable(): { state: TableState; ready: boolean; rows: Rows; progress: number | null } {
  const model = useModel();
  const [, redraw] = useState(0);
  const [rows] = useState(() => new Rows(model, () => redraw((count) => count + 1)));
  const [state, setState] = useState(NOTHING);
  const [progress, setProgress] = useState<number | null>(null);
  useMessages<TableState & Window>("state", (message) => {
    rows.take(message);
    setState(message);
    setProgress(null);
  });
  useMessages<{ done: number; total: number }>("progress", ({ done, total }) => setProgress(done / total));
  useMessages<{ view: string; count: number }>("selection", ({ view, count }) => {
    if (view !== model.view) rows.forget();
    setState((old) => ({ ...old, selected: count }));
  });
  return { state, ready: state.generation >= 0, rows, progress };
}
