import { useState } from "preact/hooks";
import { Button, ErrorLine, Field, PairsField, pairsProblem } from "../lib";
import { draftOf, editOf, judgeBody } from "../lib/draft";
import { formatJson } from "../lib/jsontext";
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
  const [draft, setDraft] = useState(() => draftOf(original));
  const edit = editOf(original, draft);
  const { label, wasJson, notJson, notHex } = judgeBody(original, draft.body);
  const blocked = notHex !== null || pairsProblem(draft.pairs) !== null;
  const rows = Math.min(16, Math.max(3, draft.body.split("\n").length + 1));
  const setBody = (body: string): void => setDraft((now) => ({ ...now, body }));
  const send = (): void => onSend(edit ?? {});

  return (
    <div class="mv-replayer-edit" data-testid="edit-form">
      <div class="mv-replayer-bodyedit">
        <Field
          label={label}
          value={draft.body}
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
            <Button kind="quiet" testid="format" onClick={() => setBody(formatJson(draft.body))}>
              Indent
            </Button>
          </div>
        ) : null}
      </div>
      <PairsField pairs={draft.pairs} onPairs={(pairs) => setDraft((now) => ({ ...now, pairs }))} />
      {problem ? <ErrorLine testid="edit-error">{problem}</ErrorLine> : null}
      <div class="mv-bar mv-replayer-actions">
        <Button kind="primary" testid="send-edit" disabled={blocked} onClick={send}>
          {edit ? "Send the edited message" : "Replay"}
        </Button>
        <Button testid="cancel-edit" onClick={onCancel}>
          Cancel
        </Button>
        <span class="mv-dim mv-fill">Goes to {place} alone, as a new message. The original stays as it is.</span>
      </div>
    </div>
  );
}
