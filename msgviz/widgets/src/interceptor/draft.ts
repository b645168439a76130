import type { Pair } from "../lib";
import { ID_ATTRIBUTE } from "../lib/attributes";
import type { Detail, Edit } from "./types";


/** A message as a person is changing it. */
export interface Draft {
  body: string;
  pairs: Pair[];
}

export function draftOf(detail: Detail): Draft {
  return {
    body: detail.text ?? detail.hex ?? "",
    pairs: Object.entries(detail.attributes)
      .filter(([key]) => key !== ID_ATTRIBUTE)
      .flatMap(([key, values]) => values.map((value): Pair => [key, value])),
  };
}

/** What a draft changes; null where that is nothing. */
export function editOf(detail: Detail, draft: Draft): Edit | null {
  const before = draftOf(detail);
  const edit: Edit = {};
  if (draft.body !== before.body) {
    edit.body =
      detail.text === undefined ? { hex: draft.body } : { text: draft.body, ...(detail.crlf ? { crlf: true } : {}) };
  }
  if (JSON.stringify(draft.pairs) !== JSON.stringify(before.pairs)) edit.attributes = merge(draft.pairs);
  return edit.body || edit.attributes ? edit : null;
}

export function hexProblem(text: string): string | null {
  const digits = text.replace(/\s+/g, "");
  const wrong = /[^0-9a-fA-F]/.exec(digits)?.[0];
  if (wrong !== undefined) return `“${wrong}” is no hex digit: write 0-9 and a-f, two for each byte.`;
  return digits.length % 2 ? "A digit is missing: each byte is two hex digits." : null;
}

export function pairsText(pairs: Pair[]): string {
  return pairs.map(([key, value]) => `${key}: ${value}`).join("\n");
}

function merge(pairs: Pair[]): Record<string, string[]> {
  const merged: Record<string, string[]> = Object.create(null) as Record<string, string[]>;
  for (const [key, value] of pairs) (merged[key.trim()] ??= []).push(value);
  return merged;
}
