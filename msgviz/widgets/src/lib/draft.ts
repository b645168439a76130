/** A message while a person changes it, before it is sent on or again. */
import { ID_ATTRIBUTE } from "./attributes";
import { jsonProblem } from "./jsontext";
import type { Pair } from "./pairs";

/** A message as the kernel gives it to be edited: its body as text, as hex, or (too long a one) not at all. */
interface Editable {
  attributes: Record<string, string[]>;
  text?: string;
  crlf?: boolean;
  hex?: string;
}

/** A message as a person is changing it. */
export interface Draft {
  body: string;
  pairs: Pair[];
}

/** A person's change of a message; see make_edit in _run.py. */
export interface Edit {
  body?: { text: string; crlf?: boolean } | { hex: string };
  attributes?: Record<string, string[]>;
}

export function draftOf(message: Editable): Draft {
  return {
    body: message.text ?? message.hex ?? "",
    pairs: Object.entries(message.attributes)
      .filter(([key]) => key !== ID_ATTRIBUTE)
      .flatMap(([key, values]) => values.map((value): Pair => [key, value])),
  };
}

/** What a draft changes; null where that is nothing. */
export function editOf(message: Editable, draft: Draft): Edit | null {
  const before = draftOf(message);
  const edit: Edit = {};
  if (draft.body !== before.body) {
    edit.body =
      message.text === undefined ? { hex: draft.body } : { text: draft.body, ...(message.crlf ? { crlf: true } : {}) };
  }
  if (JSON.stringify(draft.pairs) !== JSON.stringify(before.pairs)) edit.attributes = merge(draft.pairs);
  return edit.body || edit.attributes ? edit : null;
}

function merge(pairs: Pair[]): Record<string, string[]> {
  const merged: Record<string, string[]> = Object.create(null) as Record<string, string[]>;
  for (const [key, value] of pairs) (merged[key.trim()] ??= []).push(value);
  return merged;
}

/** What a body is to be called, and what is wrong with it now, in plain words. */
export function judgeBody(message: Editable, body: string) {
  const isText = message.text !== undefined;
  const before = draftOf(message).body;
  const wasJson = isText && before.trim() !== "" && jsonProblem(before) === null;
  return {
    label: isText ? (wasJson ? "Body (JSON)" : "Body") : "Body, as hex",
    wasJson,
    notJson: wasJson ? jsonProblem(body) : null,
    notHex: isText ? null : hexProblem(body),
  };
}

export function hexProblem(text: string): string | null {
  const digits = text.replace(/\s+/g, "");
  const wrong = /[^0-9a-fA-F]/.exec(digits)?.[0];
  if (wrong !== undefined) return `“${wrong}” is no hex digit: write 0-9 and a-f, two for each byte.`;
  return digits.length % 2 ? "A digit is missing: each byte is two hex digits." : null;
}
