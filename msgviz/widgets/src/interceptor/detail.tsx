import { useEffect, useRef, useState } from "preact/hooks";
import { Button, CopyButton, ErrorLine, Field, formatSize, formatTime, type Pair, pairsProblem } from "../lib";
import { type Draft, draftOf, type Edit, editOf, hexProblem } from "../lib/draft";
import { Countdown } from "./clock";
import { EditForm } from "./edit";
import { type Action, type Detail, ENDINGS, type Held, placeOf } from "./types";

interface Props {
  detail: Detail;
  /** As it stands in the list; null where it is held no more. */
  row: Held | null;
  draft: Draft | null;
  onDraft: (draft: Draft) => void;
  /** How it went on, where it did without this page having a part in it. */
  ended: string | null;
  problem: string | null;
  onAct: (action: Action, edit: Edit | null, error?: string) => void;
  onClose: () => void;
}

/** One held message, and what can be done with it. */
export function DetailView(props: Props) {
  const { detail, row, draft, onDraft, ended, problem, onAct, onClose } = props;
  const [failing, setFailing] = useState<string | null>(null);
  const number = useRef(detail.number);
  if (number.current !== detail.number) {
    number.current = detail.number;
    if (failing !== null) setFailing(null);
  }
  const now = draft ?? draftOf(detail);
  const edit = draft === null ? null : editOf(detail, draft);
  const blocked = (detail.hex !== undefined && hexProblem(now.body) !== null) || pairsProblem(now.pairs) !== null;

  return (
    <section
      class="mv-interceptor-detail"
      data-testid="detail"
      data-number={detail.number}
      aria-label="Held message"
      tabIndex={-1}
    >
      <div class="mv-interceptor-facts">
        <span>
          {detail.side} <b>{placeOf(detail)}</b>, in front of <b data-testid="in-front-of">{detail.layer}</b>
        </span>
        <span class="mv-dim">
          <span class="mv-code">{detail.messageId}</span> · {formatSize(detail.size)}
          {detail.attempt > 1 ? ` · attempt ${detail.attempt}` : ""} · since {formatTime(detail.since).slice(0, 8)}
        </span>
        {row === null ? null : <Countdown held={row} words="goes on in " />}
      </div>
      {row === null ? (
        <Gone detail={detail} ended={ended} edited={edit !== null} draft={now} onClose={onClose} />
      ) : null}
      {row === null && edit === null ? null : (
        <EditForm
          detail={detail}
          draft={now}
          onDraft={onDraft}
          onSubmit={() => row === null || blocked || onAct("continue", edit)}
        />
      )}
      {problem ? <ErrorLine testid="act-error">{problem}</ErrorLine> : null}
      {row === null ? null : (
        <>
          <div class="mv-interceptor-actions" onClickCapture={onlyOnce}>
            <Button kind={edit ? "plain" : "primary"} testid="continue" onClick={() => onAct("continue", null)}>
              {edit ? "Continue unchanged" : "Continue"}
            </Button>
            <Button
              kind={edit ? "primary" : "plain"}
              testid="continue-edit"
              disabled={edit === null || blocked}
              onClick={() => onAct("continue", edit)}
            >
              Continue with the edit
            </Button>
            <Button
              testid="step"
              disabled={detail.next === null || (edit !== null && blocked)}
              {...(detail.next === null ? { label: NO_STEP } : {})}
              onClick={() => onAct("step", edit)}
            >
              <span class="mv-interceptor-to">
                {detail.next === null ? "Step" : `Step to ${detail.next}${edit ? " with the edit" : ""}`}
              </span>
            </Button>
            <span class="mv-interceptor-apart" />
            <Button kind="danger" testid="drop" onClick={() => onAct("drop", null)}>
              Drop
            </Button>
            <Button
              kind="danger"
              testid="fail"
              pressed={failing !== null}
              onClick={() => setFailing(failing === null ? "failed by hand" : null)}
            >
              Fail…
            </Button>
          </div>
          {failing === null ? (
            <div class="mv-dim mv-interceptor-help">{HELP[detail.side]}</div>
          ) : (
            <FailForm
              side={detail.side}
              text={failing}
              onText={setFailing}
              onFail={() => onAct("fail", null, failing)}
              onCancel={() => setFailing(null)}
            />
          )}
        </>
      )}
    </section>
  );
}

const NO_STEP = "There is no layer to step to: this is the last one, or the chain was not observed with layers=True";

const HELP = {
  publish: "Drop: it goes nowhere, and its publisher is told that all went well. Fail: the publisher gets the error.",
  receive: "Drop: it is settled without being received. Fail: it is delivered again, if it may be tried again.",
};

/** The second click of a double click was not meant for the message that comes next. */
function onlyOnce(event: MouseEvent): void {
  if (event.detail > 1) event.stopPropagation();
}

interface GoneProps {
  detail: Detail;
  ended: string | null;
  edited: boolean;
  draft: Draft;
  onClose: () => void;
}

/** Says that a message went on, and keeps what was written. */
function Gone({ detail, ended, edited, draft, onClose }: GoneProps) {
  const said = ended === null ? "it went on" : (ENDINGS[ended]?.[0] ?? ended);
  return (
    <div class="mv-interceptor-gone" role="alert" data-testid="gone">
      <span>
        This message is not held any more: {said}
        {ended === "timed out" ? ` after ${detail.timeout.toLocaleString("en")} s` : ""}.{" "}
        {edited ? "It went without your edit, which is kept here until you close it." : ""}
      </span>
      <span class="mv-interceptor-kept">
        {edited && !detail.locked ? (
          <span>
            Copy the body <CopyButton testid="copy-body" label="Copy the edited body" text={draft.body} />
          </span>
        ) : null}
        {edited ? (
          <span>
            Copy the attributes{" "}
            <CopyButton testid="copy-attributes" label="Copy the edited attributes" text={pairsText(draft.pairs)} />
          </span>
        ) : null}
        <Button testid="close" onClick={onClose}>
          {edited ? "Close and discard the edit" : "Close"}
        </Button>
      </span>
    </div>
  );
}

function pairsText(pairs: Pair[]): string {
  return pairs.map(([key, value]) => `${key}: ${value}`).join("\n");
}

interface FailProps {
  side: Held["side"];
  text: string;
  onText: (text: string) => void;
  onFail: () => void;
  onCancel: () => void;
}

function FailForm({ side, text, onText, onFail, onCancel }: FailProps) {
  const form = useRef<HTMLDivElement>(null);
  useEffect(() => form.current?.querySelector("input")?.select(), []);
  return (
    <div
      ref={form}
      class="mv-interceptor-fail"
      data-testid="fail-form"
      onKeyDownCapture={(event) => {
        if (event.key === "Escape") onCancel();
      }}
    >
      <div class="mv-fill">
        <Field
          label={`It fails with RuntimeError, ${side === "publish" ? "which its publisher gets" : "as if its receiver had raised it"}. What the error says:`}
          value={text}
          onInput={onText}
          onSubmit={onFail}
          testid="fail-text"
          code
        />
      </div>
      <Button kind="danger" testid="fail-send" onClick={onFail}>
        Fail with this error
      </Button>
      <Button testid="fail-cancel" onClick={onCancel}>
        Cancel
      </Button>
    </div>
  );
}
