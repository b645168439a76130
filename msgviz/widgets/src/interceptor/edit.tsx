import { Button, Field, LongBody, PairsField, useModel } from "../lib";
import type { Body } from "../lib";
import { type Draft, draftOf, judgeBody } from "../lib/draft";
import { formatJson } from "../lib/jsontext";
import type { Detail } from "./types";

interface Props {
  detail: Detail;
  draft: Draft;
  onDraft: (draft: Draft) => void;
  onSubmit: () => void;
}

/** The body and the attributes of a held message, to be changed. */
export function EditForm({ detail, draft, onDraft, onSubmit }: Props) {
  const model = useModel();
  const start = draftOf(detail).body;
  const { label, wasJson, notJson, notHex } = judgeBody(detail, draft.body);
  const set = (body: string): void => onDraft({ ...draft, body });
  const rows = Math.min(14, Math.max(4, start.split("\n").length + 1, Math.ceil(start.length / 90) + 1));
  return (
    <div class="mv-interceptor-edit">
      <div>
        {detail.locked ? (
          <>
            <div class="mv-label">Body</div>
            <LongBody body={detail.body} ask={(at) => model.request<Body>("body", { number: detail.number, at })} />
            <div class="mv-dim" data-testid="locked">
              This body is too long to edit here; it goes on as it is.
            </div>
          </>
        ) : (
          <>
            <Field
              label={label}
              value={draft.body}
              onInput={set}
              testid="edit-body"
              rows={rows}
              code
              error={notHex}
              onSubmit={onSubmit}
            />
            {wasJson ? (
              <div class="mv-interceptor-hint mv-dim">
                {notJson ? (
                  <span class="mv-interceptor-note" data-testid="not-json" role="status">
                    Not JSON any more: {notJson}. It would be sent as it is.
                  </span>
                ) : (
                  <>
                    <span>Valid JSON</span>
                    <Button kind="quiet" testid="format" onClick={() => set(formatJson(draft.body))}>
                      Indent
                    </Button>
                  </>
                )}
              </div>
            ) : null}
          </>
        )}
      </div>
      <PairsField pairs={draft.pairs} onPairs={(pairs) => onDraft({ ...draft, pairs })} />
    </div>
  );
}
