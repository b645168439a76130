/** What the kernel sends; see replayer.py, _cases.py, _run.py and _history.py. */
import type { Edit as MessageEdit } from "../lib/draft";

export interface Group {
  key: number;
  version: number;
  errorType: string;
  topic: string | null;
  subscription: string | null;
  error: string;
  failures: number;
  first: number;
  last: number;
  open: number;
  counts: Record<string, number>;
}

export type Outcome = "under_way" | "ok" | "dead" | "failed" | "skipped" | "dropped";

export interface RunRow {
  number: number;
  case: number | null;
  messageId: string;
  replayId: string | null;
  subscription: string | null;
  outcome: Outcome;
  reason: string | null;
}

export interface Run {
  total: number;
  done: number;
  running: boolean;
  stopped: boolean;
  edited: boolean;
  counts: Partial<Record<Outcome, number>>;
  rows: RunRow[];
  more: number;
}

export interface State {
  groups: Group[];
  more: number;
  counts: Record<Exclude<Filter, "all">, number>;
  run: Run | null;
}

export interface Row {
  key: number;
  messageId: string;
  status: string;
  error: string;
  time: number;
  replays: number;
  preview: string;
}

export interface Change {
  name: string;
  lines: [sign: string, text: string][];
}

export interface Step {
  messageId: string;
  dropped?: true;
  original?: boolean;
  time: number;
  state: string;
  outcome: string | null;
  error: string | null;
  changes: Change[];
}

export interface Case {
  key: number;
  messageId: string;
  root: string;
  status: string;
  attempts: number;
  errorType: string;
  error: string;
  traceback: string | null;
  attributes: Record<string, string[]>;
  body: { base64: string; size: number } | null;
  size: number;
  history: Step[];
  earlier: number;
  locked?: string;
  text?: string;
  crlf?: boolean;
  hex?: string;
}

export interface Check {
  total: number;
  unchecked: number;
  places: string[];
  ready: number;
  skipped: number;
  reasons: { reason: string; count: number }[];
}

/** A person's change of what is sent, which may be many messages. */
export interface Edit extends MessageEdit {
  set?: [key: string, value: string][];
  remove?: string[];
}

/** `ok`: went well on a later attempt, without a replay. */
export type Filter = "open" | "resolved" | "ok" | "all";

export const isOpen = (status: string): boolean => status !== "ok" && status !== "resolved";

export const placeOf = (group: { topic: string | null; subscription: string | null }): string =>
  [group.topic, group.subscription].filter((part) => part !== null).join("/") || "an unnamed place";
