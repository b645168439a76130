import { useState } from "preact/hooks";
import { Button, ErrorLine, Field, type Pair, PairsField, pairsProblem } from "../lib";
import { ID_ATTRIBUTE } from "../lib/attributes";
import { formatJson, jsonProblem } from "../lib/jsontext";
import type { Case, Edit } from "./types";

interface Props {
  original: Case;
  place: string;
  problem: string | null;
  onSend: (edit: Edit | null) => void;
  onCancel: () => void;
}

/** Changes the body and the attributes of one message before it is sent again. */
export function EditForm({ original, place, problem, onSend, onCancel }: Props) {
  const isText = original.text !== undefined;
  const start = original.text ?? original.hex ?? "";
  const before = pairsOf(original.attributes);
  const [body, setBody] = useState(start);
  const [pairs, setPairs] = useState<Pair[]>(before);
  const wasJson = isText && start.trim() !== "" && jsonProblem(start) === null;
  const notJson = wasJson ? jsonProblem(body) : null;
  const notHex = isText ? null : hexProblem(body);
  const bodyChanged = body !== start;
  const pairsChanged = JSON.stringify(pairs) !== JSON.stringify(before);
  const rows = Math.min(16, Math.max(3, body.split("\n").length + 1));

  const send = (): void => {
    const edit: Edit = {};
    if (bodyChanged) {
      edit.body = isText ? { text: body, ...(original.crlf ? { crlf: true } : {}) } : { hex: body };
    }
    if (pairsChanged) edit.attributes = merge(pairs);
    onSend(edit);
  };
  const blocked = notHex !== null || pairsProblem(pairs) !== null;

  return (
    <div class="mv-replayer-edit" data-testid="edit-form">
      <div class="mv-replayer-bodyedit">
        <Field
          label={isText ? (wasJson ? "Body (JSON)" : "Body") : "Body, as hex"}
          value={body}
          onInput={setBody}
          testid="edit-body"
          rows={rows}
          code
          error={notHex}
          onSubmit={() => blocked || send()}
        />
        {notJson ? (
          <div class="mv-replayer-note" data-testid="not-json" role="status">
            Not JSON any more: {notJson}. It would be sent as it is.
          </div>
        ) : null}
        {wasJson && !notJson ? (
          <div class="mv-replayer-hint">
            <span class="mv-dim">Valid JSON</span>
            <Button kind="quiet" testid="format" onClick={() => setBody(formatJson(body))}>
              Indent
            </Button>
          </div>
        ) : null}
      </div>
      <PairsField pairs={pairs} onPairs={setPairs} />
      {problem ? <ErrorLine testid="edit-error">{problem}</ErrorLine> : null}
      <div class="mv-bar mv-replayer-actions">
        <Button kind="primary" testid="send-edit" disabled={blocked} onClick={send}>
          {bodyChanged || pairsChanged ? "Send the edited message" : "Replay"}
        </Button>
        <Button testid="cancel-edit" onClick={onCancel}>
          Cancel
        </Button>
        <span class="mv-dim mv-fill">Goes to {place} alone, as a new message. The original stays as it is.</span>
      </div>
    </div>
  );
}

function pairsOf(attributes: Record<string, string[]>): Pair[] {
  return Object.entries(attributes)
    .filter(([key]) => key !== ID_ATTRIBUTE)
    .flatMap(([key, values]) => values.map((value): Pair => [key, value]));
}

function merge(pairs: Pair[]): Record<string, string[]> {
  const merged: Record<string, string[]> = Object.create(null) as Record<string, string[]>;
  for (const [key, value] of pairs) (merged[key.trim()] ??= []).push(value);
  return merged;
}

function hexProblem(text: string): string | null {
  const digits = text.replace(/\s+/g, "");
  const wrong = /[^0-9a-fA-F]/.exec(digits)?.[0];
  if (wrong !== undefined) return `“${wrong}” is no hex digit: write 0-9 and a-f, two for each byte.`;
  return digits.length % 2 ? "A digit is missing: each byte is two hex digits." : null;
}
