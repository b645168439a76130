import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { useTrait } from "../lib";
import { findMistake, type Mistake } from "./json";

export type Kind = "json" | "text" | "file";
export type Row = [key: string, value: string];

/** What is written in the form; numbers as they were typed. */
export interface Form {
  kind: Kind;
  text: string;
  /** Line ends are CRLF: a text field has only LF. */
  crlf: boolean;
  /** Its content is in the kernel, under `id`. */
  file: { id: number; name: string; size: number } | null;
  attributes: Row[];
  delay: string;
  count: string;
  /** The message that the kernel copied into the form, until something is changed. */
  source: string | null;
  /** How often the kernel has filled the form. */
  filled: number;
}

/** How the last click of Publish ended, or how far it is. */
export interface Result {
  status: "publishing" | "ok" | "failed" | "stopped";
  topic: string;
  done: number;
  total: number;
  size: number;
  time: number;
  seconds: number;
  message_id: string | null;
  error: { type: string; text: string } | null;
}

const SYNC_MS = 300;

/**
 * The form, which lives here while it is written in, and follows in the kernel: so it is still there
 * when the page is loaded again, and the kernel can fill it. `previous` is what that replaced.
 */
export function useForm() {
  const [synced, setSynced] = useTrait<Form>("_form");
  const [form, setForm] = useState(synced);
  const [previous, setPrevious] = useState<Form | null>(null);
  const current = useRef(form);
  const sent = useRef(JSON.stringify(synced));
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);

  const send = useCallback(() => {
    clearTimeout(timer.current);
    sent.current = JSON.stringify(current.current);
    setSynced(current.current);
  }, [setSynced]);
  const latest = useRef(send);
  latest.current = send;

  useEffect(() => {
    const text = JSON.stringify(synced);
    if (text === sent.current) return;
    if (synced.filled < current.current.filled) {
      latest.current(); // the echo of what was sent before the kernel filled the form: its own stands
      return;
    }
    sent.current = text;
    clearTimeout(timer.current);
    if (synced.source !== null && isWritten(current.current)) setPrevious(current.current);
    current.current = synced;
    setForm(synced);
  }, [synced]);
  useEffect(() => () => clearTimeout(timer.current), []);

  const replace = useCallback((next: Form) => {
    current.current = next;
    setForm(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => latest.current(), SYNC_MS);
  }, []);
  const change = useCallback(
    (part: Partial<Form>) => {
      setPrevious(null);
      replace({ ...current.current, source: null, ...part });
    },
    [replace],
  );
  const undo = (): void => {
    if (previous !== null) replace({ ...previous, filled: current.current.filled });
    setPrevious(null);
  };
  return { form, change, previous, undo, send };
}

function isWritten(form: Form): boolean {
  return form.text !== "" || form.file !== null || form.attributes.some(([key, value]) => key || value);
}

/** What must be mended before the form can be published. */
export interface Mistakes {
  json: Mistake | null;
  file: string | null;
  rows: (string | null)[];
  delay: string | null;
  count: string | null;
}

export function findMistakes(form: Form): Mistakes {
  return {
    json: form.kind === "json" ? findMistake(form.text) : null,
    file: form.kind === "file" && form.file === null ? "Choose a file first." : null,
    rows: form.attributes.map(([key, value]) => {
      if (key.toLowerCase() === "msgviz-id") return "The log sets Msgviz-Id itself: remove this line.";
      return key.trim() === "" && (key || value) ? "This attribute needs a key." : null;
    }),
    delay: /^\s*(\d+\.?\d*|\.\d+)?\s*$/.test(form.delay) ? null : "Seconds, from 0 on: 1.5",
    count: /^\s*0*[1-9]\d{0,8}\s*$|^\s*$/.test(form.count) ? null : "A whole number, from 1 on.",
  };
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]*$/;

/** The canonical MIME form of a key, as `msgviz.canonical_key` gives it. */
export function canonicalKey(key: string): string {
  if (!TOKEN.test(key)) return key;
  return key
    .split("-")
    .map((part) => part.slice(0, 1).toUpperCase() + part.slice(1).toLowerCase())
    .join("-");
}
